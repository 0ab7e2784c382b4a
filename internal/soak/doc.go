// Package soak holds one proof and no code: a watcher that has pushed a million calls
// holds no more memory, goroutines and files than one that has pushed a few thousand.
package soak
