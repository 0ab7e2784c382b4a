// Package soak holds proofs and no code, each with the watcher as a process of its own:
// after a million calls it holds no more memory, goroutines and files than after a few
// thousand; when it is idle it holds little; and calls of CRMs that hang do not wait in
// its memory.
package soak
