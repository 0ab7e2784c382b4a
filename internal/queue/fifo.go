package queue

// fifo is a queue of jobs.
type fifo struct {
	items []*Job
	head  int
}

func (f *fifo) len() int { return len(f.items) - f.head }

// push adds a job at the end. The room of jobs that are gone is used again
// before the array grows, or a queue that is never empty would grow for ever.
func (f *fifo) push(d *Job) {
	if f.head > 0 && len(f.items) == cap(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, d)
}

func (f *fifo) first() *Job { return f.items[f.head] }

func (f *fifo) pop() *Job {
	d := f.items[f.head]
	f.items[f.head] = nil
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return d
}
