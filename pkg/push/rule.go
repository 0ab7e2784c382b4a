package push

// Rule judges a JSON answer. Exactly one of its tests is set.
type Rule struct {
	Path      string // dotted path into the answer; array elements by index
	Equals    []byte // JSON text of the value that the path must have
	NotEquals []byte // JSON text of the value that the path must not have
	Exists    *bool  // whether the path must exist
}
