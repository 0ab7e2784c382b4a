//go:build !unix

package admin

// fileLimit is how many files the process may open: here nothing says.
func fileLimit() int { return 1 << 20 }
