package resume_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cxbridge/watcher/pkg/resume"
)

// A replica holds its partition, settles two events out of order, and saves how far it is.
// In production the Memory is a Store, and package stream reads the events.
func Example() {
	positions := resume.NewMemory("example")
	group, err := resume.NewGroup(resume.GroupConfig{Store: positions})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	err = group.Run(ctx, func(ctx context.Context, lease *resume.Lease) error {
		fmt.Println("holding", lease.Partition(), "from", lease.Record().Position)
		tracker := resume.NewTracker()
		noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
		first := tracker.Track(resume.At(noon.Add(time.Second)))
		second := tracker.Track(resume.At(noon.Add(2 * time.Second)))
		second()
		if _, known := tracker.Watermark(); !known {
			fmt.Println("the first event is not settled yet")
		}
		first()
		watermark, _ := tracker.Watermark()
		if err := lease.Save(ctx, watermark, resume.Origin{}); err != nil {
			return err
		}
		stop(errors.New("the example is over"))
		<-ctx.Done()
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	record, _, _ := positions.Record(context.Background(), resume.Partition{Of: 1})
	fmt.Println("saved", record.Position)
	// Output:
	// holding 0-of-1 from nowhere
	// the first event is not settled yet
	// saved 2026-11-21T12:00:02Z
}

// What works under a lease is tested with one from a Memory.
func ExampleMemory_Hold() {
	ctx, end := context.WithCancelCause(context.Background())
	defer end(nil)
	lease, err := resume.NewMemory("example").Hold(ctx, resume.Partition{Index: 1, Of: 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(lease.Partition(), lease.Term(), lease.Alive())
	end(resume.ErrLost)
	fmt.Println(context.Cause(lease.Context()), lease.Alive())
	// Output:
	// 1-of-4 1 true
	// the lease is lost false
}
