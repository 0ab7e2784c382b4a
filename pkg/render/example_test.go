package render_test

import (
	"fmt"

	"github.com/cxbridge/watcher/pkg/render"
)

// order is what a shop knows of an order, by full name.
type order map[render.Name]string

func (o order) AppendText(dst []byte, name render.Name) ([]byte, render.Found) {
	text, ok := o[name]
	if !ok {
		return dst, render.Absent
	}
	return append(dst, text...), render.Text
}

// A mapper is compiled once and rendered for each order. A token that names no
// namespace is looked for in the ones to fall back to; text that is JSON becomes
// JSON; what does not exist is empty.
func Example() {
	namespaces := render.Namespaces{Names: []string{"customer", "order"}, Fallback: []string{"customer", "order"}}
	mapper := render.Compile(namespaces, []render.Field{
		{Key: "ref", Value: render.Template("No. {{order.id}} for {{name}}")},
		{Key: "items", Value: render.Template("{{order.items}}")},
		{Key: "note", Value: render.Template("{{order.note}}")},
		{Key: "version", Value: render.Literal([]byte("2"))},
	})
	o := order{
		{Namespace: "order", Field: "id"}:      "42",
		{Namespace: "customer", Field: "name"}: "Anna",
		{Namespace: "order", Field: "items"}:   `[{"sku": "a-1"}]`,
	}
	body, err := mapper.AppendJSON(nil, o, render.Options{MaxBytes: 1 << 20})
	fmt.Println(string(body), err)
	query, err := mapper.AppendQuery(nil, o, render.Options{})
	fmt.Println(string(query), err)
	// Output:
	// {"ref":"No. 42 for Anna","items":[{"sku":"a-1"}],"note":"","version":2} <nil>
	// ref=No.%2042%20for%20Anna&items=%5B%7B%22sku%22%3A%22a-1%22%7D%5D&note=&version=2 <nil>
}
