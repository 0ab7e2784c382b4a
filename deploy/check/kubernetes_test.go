// Package check holds the manifests below deploy, the dashboards and the workflows against
// the libraries that will read them, or share a schema with what does: Kustomize, the types
// of Kubernetes and of the Prometheus operator, Compose, Grafana's foundation SDK, actionlint.
// It is a module of its own, because those would bring a hundred modules into the
// watcher's.
package check

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what is generated anew")

// api is a Deployment as CXB API has it, with the component added.
const api = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: cxb-api}
spec:
  selector: {matchLabels: {app: cxb-api}}
  template:
    metadata: {labels: {app: cxb-api}}
    spec:
      containers: [{name: api, image: "cxb-api:1", ports: [{name: http, containerPort: 8000}]}]
`

const withSidecar = `
resources: [deployment.yaml]
components: [../components/sidecar]
`

// cluster is what one directory builds, by kind.
type cluster struct {
	deployment apps.Deployment
	configs    map[string]core.ConfigMap
	secrets    map[string]core.Secret
	service    *core.Service
	budget     *policy.PodDisruptionBudget
	network    *networking.NetworkPolicy
	podMonitor *monitoring.PodMonitor
	alertRules *monitoring.PrometheusRule
}

// build runs Kustomize on a directory below deploy/kubernetes, with the example
// as the secret.
func build(t *testing.T, dir string) *cluster {
	t.Helper()
	files := filesys.MakeFsInMemory()
	root := filepath.Join("..", "kubernetes")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "mongo-uri" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		if uri, ok := strings.CutSuffix(name, ".example"); ok {
			name = uri
		}
		return files.WriteFile(name, data)
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"/app/deployment.yaml": api, "/app/kustomization.yaml": withSidecar} {
		if err := files.WriteFile(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/"+dir)
	if err != nil {
		t.Fatalf("kustomize build %s: %v", dir, err)
	}
	c := &cluster{configs: map[string]core.ConfigMap{}, secrets: map[string]core.Secret{}}
	for _, r := range built.Resources() {
		raw, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		c.add(t, r.GetKind(), raw)
	}
	return c
}

// add decodes one resource; a field that its type does not have is an error.
func (c *cluster) add(t *testing.T, kind string, raw []byte) {
	t.Helper()
	strict := func(into any) {
		if err := yaml.UnmarshalStrict(raw, into); err != nil {
			t.Fatalf("%s: %v\n%s", kind, err, raw)
		}
	}
	switch kind {
	case "Deployment":
		strict(&c.deployment)
	case "ConfigMap":
		var m core.ConfigMap
		strict(&m)
		c.configs[m.Name] = m
	case "Secret":
		var s core.Secret
		strict(&s)
		c.secrets[s.Name] = s
	case "Service":
		strict(&c.service)
	case "PodDisruptionBudget":
		strict(&c.budget)
	case "NetworkPolicy":
		strict(&c.network)
	case "PodMonitor":
		strict(&c.podMonitor)
	case "PrometheusRule":
		strict(&c.alertRules)
	case "ServiceAccount":
		strict(&core.ServiceAccount{})
	default:
		t.Fatalf("a resource of kind %s, which nothing checks", kind)
	}
}

// watcher is the container of the watcher.
func (c *cluster) watcher(t *testing.T) core.Container {
	t.Helper()
	containers := c.deployment.Spec.Template.Spec.Containers
	at := slices.IndexFunc(containers, func(k core.Container) bool { return k.Name == "watcher" })
	if at < 0 {
		t.Fatalf("no container watcher in %v", containers)
	}
	return containers[at]
}

func TestEachDirectoryBuilds(t *testing.T) {
	for dir, replicas := range map[string]int32{"base": 2, "overlays/partitions": 3} {
		t.Run(dir, func(t *testing.T) {
			c := build(t, dir)
			if got := *c.deployment.Spec.Replicas; got != replicas {
				t.Errorf("%d replicas, want %d", got, replicas)
			}
			c.checkPod(t)
			c.checkPeers(t)
			if w := c.watcher(t); w.ReadinessProbe == nil || w.ReadinessProbe.HTTPGet.Path != "/readyz" {
				t.Errorf("the readiness probe does not ask /readyz: %v", w.ReadinessProbe)
			}
		})
	}
}

func TestTheSidecarLeavesTheAPIAsItIs(t *testing.T) {
	c := build(t, "app")
	c.checkPod(t)
	containers := c.deployment.Spec.Template.Spec.Containers
	if len(containers) != 2 || !slices.ContainsFunc(containers, func(k core.Container) bool { return k.Name == "api" && k.Image == "cxb-api:1" }) {
		t.Errorf("containers: %v", containers)
	}
	if c.watcher(t).ReadinessProbe != nil {
		t.Error("a watcher that is not ready takes the API out of its service")
	}
}

// checkPod says what is wrong with the pod of the watcher.
func (c *cluster) checkPod(t *testing.T) {
	t.Helper()
	w, spec := c.watcher(t), c.deployment.Spec.Template.Spec
	if s := w.SecurityContext; s == nil || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) {
		t.Errorf("security of the container: %+v", s)
	}
	if !runsAsNobody(spec.SecurityContext, w.SecurityContext) {
		t.Errorf("the container may run as root: %+v, %+v", spec.SecurityContext, w.SecurityContext)
	}
	if p := w.LivenessProbe; p == nil || p.HTTPGet.Path != "/livez" || p.HTTPGet.Port.StrVal != w.Ports[0].Name {
		t.Errorf("liveness: %+v", p)
	}
	if w.Resources.Limits.Memory().IsZero() || strings.Contains(w.Image, ":latest") || !strings.Contains(w.Image, ":") {
		t.Errorf("image %s with limits %v", w.Image, w.Resources.Limits)
	}
	for _, from := range w.EnvFrom {
		if _, ok := c.configs[from.ConfigMapRef.Name]; !ok {
			t.Errorf("no config map %s", from.ConfigMapRef.Name)
		}
	}
	c.checkSecret(t, &spec, &w)
}

func runsAsNobody(pod *core.PodSecurityContext, container *core.SecurityContext) bool {
	if container.RunAsNonRoot != nil {
		return *container.RunAsNonRoot && *container.RunAsUser != 0 && container.SeccompProfile != nil
	}
	return pod != nil && *pod.RunAsNonRoot && *pod.RunAsUser != 0 && pod.SeccompProfile != nil
}

// checkSecret follows --mongo-uri-file to the key of a secret.
func (c *cluster) checkSecret(t *testing.T, spec *core.PodSpec, w *core.Container) {
	t.Helper()
	for _, mount := range w.VolumeMounts {
		for _, v := range spec.Volumes {
			if v.Name != mount.Name || v.Secret == nil {
				continue
			}
			for key := range c.secrets[v.Secret.SecretName].Data {
				if slices.Contains(w.Args, "--mongo-uri-file="+mount.MountPath+"/"+key) {
					return
				}
			}
		}
	}
	t.Errorf("the arguments %v name no key of a secret that is mounted", w.Args)
}

// checkPeers says which of the others does not find the pods or their port.
func (c *cluster) checkPeers(t *testing.T) {
	t.Helper()
	labels, port := c.deployment.Spec.Template.Labels, c.watcher(t).Ports[0].Name
	for what, selector := range map[string]map[string]string{
		"deployment": c.deployment.Spec.Selector.MatchLabels, "service": c.service.Spec.Selector,
		"budget": c.budget.Spec.Selector.MatchLabels, "network policy": c.network.Spec.PodSelector.MatchLabels,
		"pod monitor": c.podMonitor.Spec.Selector.MatchLabels,
	} {
		if len(selector) == 0 {
			t.Errorf("the %s selects every pod", what)
		}
		for k, v := range selector {
			if labels[k] != v {
				t.Errorf("the %s selects %s=%s, the pods have %v", what, k, v, labels)
			}
		}
	}
	if got := c.service.Spec.Ports[0].TargetPort.StrVal; got != port {
		t.Errorf("the service leads to %q, the port is %q", got, port)
	}
	if e := c.podMonitor.Spec.PodMetricsEndpoints[0]; e.Port == nil || *e.Port != port || e.Path != "/metrics" {
		t.Errorf("the pod monitor asks %v", e)
	}
	if got := c.network.Spec.Ingress[0].Ports[0].Port.StrVal; got != port {
		t.Errorf("the network policy opens %q, the port is %q", got, port)
	}
}

// The rules of the cluster are those of dashboards/rules.yaml, two columns to the right.
func TestRules(t *testing.T) {
	const file = "../kubernetes/base/prometheusrule.yaml"
	rules, err := os.ReadFile("../../dashboards/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.NewBufferString("apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: watcher\nspec:\n")
	for line := range bytes.Lines(rules) {
		if len(bytes.TrimSpace(line)) > 0 {
			want.WriteString("  ")
		}
		want.Write(line)
	}
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Fatalf("%s is not dashboards/rules.yaml (%v); run with -update", file, err)
	}
	if groups := build(t, "base").alertRules.Spec.Groups; len(groups) == 0 {
		t.Error("no groups")
	}
}
