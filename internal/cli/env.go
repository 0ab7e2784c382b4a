package cli

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/pkg/render"
)

// EnvName is the environment variable of a flag, which is named without dashes
// before it: WATCHER_SOME_FLAG of watcher and some-flag. Each program has its own,
// and so has each command for the flags that are its own: those of the command
// "replay list" begin with WATCHER_REPLAY_LIST. No variable means two things.
func EnvName(program, flag string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", " ", "_").Replace(program + "_" + flag))
}

// isSetting reports whether a flag means the same to each command that has it. Those
// without a group, and those that say which calls a command is about, are its own.
func isSetting(f *kong.Flag) bool { return f.Group != nil && f.Group.Key != "which" }

// nameVariables finds the variable of each flag below a node. A default command goes
// by the name of the command that it is the default of.
func nameVariables(into map[*kong.Value]string, node *kong.Node, program, path string) {
	for _, f := range node.Flags {
		switch {
		case f.Name == "help" || f.Name == "version": // acts at once
		case isSetting(f):
			into[f.Value] = EnvName(program, f.Name)
		default:
			into[f.Value] = EnvName(path, f.Name)
		}
	}
	for _, child := range node.Children {
		below := path + " " + child.Name
		if child == node.DefaultCmd {
			below = path
		}
		nameVariables(into, child, program, below)
	}
}

// environment takes the values of flags from their environment variables.
func environment(variables map[*kong.Value]string, lookup Env) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		name, ok := variables[flag.Value]
		if !ok {
			return nil, nil
		}
		if v, ok := lookup(name); ok && v != "" {
			return v, nil
		}
		return nil, nil
	})
}

// flagHelp shows a flag's help with its default and its environment variable.
func flagHelp(variables map[*kong.Value]string) kong.HelpValueFormatter {
	return func(value *kong.Value) string {
		name, ok := variables[value]
		if !ok {
			return value.Help
		}
		help := value.Help
		if value.HasDefault && value.Default != "" {
			help = fmt.Sprintf("%s (default %s)", help, value.Default)
		}
		return fmt.Sprintf("%s [$%s]", help, name)
	}
}

// ofKubernetes are the variables that Kubernetes sets for each service of a
// namespace; those of a service "watcher" look like the program's.
var ofKubernetes = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// The most unknown variables that are told, and how much of a name.
const (
	maxUnknown     = 20
	maxUnknownName = 80
)

// unknownVariables says which variables of an environment begin as the program's do
// and have no meaning, with the nearest that has one. Empty ones count as not set.
func unknownVariables(program string, environ []string, variables map[*kong.Value]string) []string {
	known := slices.Compact(slices.Sorted(maps.Values(variables)))
	var notes []string
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, EnvName(program, "")) || value == "" || ofKubernetes.MatchString(name) {
			continue
		}
		if _, found := slices.BinarySearch(known, name); found {
			continue
		}
		if len(notes) == maxUnknown {
			return append(notes, "there are more such variables")
		}
		note := fmt.Sprintf("the variable %.*q has no meaning", maxUnknownName, name)
		if near := nearest(name, program, known); near != "" {
			note += "; is " + near + " meant?"
		}
		notes = append(notes, note)
	}
	return notes
}

// nearest are the known variables of a flag that a name ends with, at most three, else
// the one that looks most like it. What all begin with does not count.
func nearest(name, program string, known []string) string {
	prefix := EnvName(program, "")
	name = strings.TrimPrefix(name, prefix)
	var same, flags []string
	for _, k := range known {
		if strings.HasSuffix(k, "_"+name) && len(same) < 3 {
			same = append(same, k)
		}
		flags = append(flags, strings.TrimPrefix(k, prefix))
	}
	if len(same) > 0 {
		return strings.Join(same, " or ")
	}
	if near := render.Nearest(name, flags); near != "" {
		return prefix + near
	}
	return ""
}

// Noter is a command that tells notes about its environment by itself.
type Noter interface{ Notes(notes []string) }

func tell(command *kong.Context, std Streams, name string, notes []string) {
	target := command.Model.Target
	if node := command.Selected(); node != nil {
		target = node.Target
	}
	if n, ok := target.Addr().Interface().(Noter); ok {
		n.Notes(notes)
		return
	}
	for _, note := range notes {
		fmt.Fprintln(std.Err, name+": "+note)
	}
}
