package replay

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/internal/records"
	"github.com/cxbridge/watcher/pkg/resume"
)

func database(t *testing.T) *mongo.Database {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(localmongotest.Start(t, localmongo.Options{}).URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return client.Database("db")
}

// The record of a replay stands among the saved positions without being one, and
// is still there after the number of partitions has changed.
func TestRecordsStandBesideThePositions(t *testing.T) {
	coll := database(t).Collection("watcher_resume")
	own, other := NewRecords(coll, "default"), NewRecords(coll, "default2")
	want := Record{
		ID: records.NewID(noon), State: StateMarking, Since: noon.Add(-time.Hour), Until: noon, Bots: []string{"b"},
		Statuses: usualStates, Rate: 2.5, Found: 3, By: "me", StartedAt: noon,
	}
	if err := own.Save(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := other.Save(t.Context(), Record{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	positions, err := resume.NewStore(coll, "default")
	if err != nil {
		t.Fatal(err)
	}
	if err := positions.Reset(t.Context(), resume.Partition{Of: 1}, resume.At(noon), resume.Reset{At: noon}); err != nil {
		t.Fatal(err)
	}
	group, err := resume.NewGroup(resume.GroupConfig{Store: positions, Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	held := make(chan resume.Record, 2)
	ended := make(chan error, 1)
	go func() {
		ended <- group.Run(ctx, func(ctx context.Context, lease *resume.Lease) error {
			held <- lease.Record()
			<-ctx.Done()
			return nil
		})
	}()
	for range 2 {
		if r := <-held; r.Partition.Of != 2 || !r.Position.Time().Equal(noon) || r.Reset == nil {
			t.Errorf("held after the change: %+v", r)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	all, err := positions.Records(t.Context())
	if err != nil || len(all) != 2 {
		t.Errorf("positions: %+v, %v", all, err)
	}
	got, found, err := own.Find(t.Context(), want.ID)
	if err != nil || !found || got.State != want.State || !got.Since.Equal(want.Since) || got.Rate != 2.5 || len(got.Bots) != 1 || got.ID != want.ID {
		t.Errorf("%+v, %v, %v", got, found, err)
	}
	if err := own.Cancel(t.Context(), want.ID, "him", noon); err != nil {
		t.Fatal(err)
	}
	if err := own.Save(t.Context(), want); !errors.Is(err, ErrCancelled) {
		t.Errorf("a cancelled replay goes on: %v", err)
	}
	if got, _, err := own.Find(t.Context(), want.ID); err != nil || got.State != StateCancelled || got.EndedBy != "him" || got.Found != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	list, err := own.List(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != want.ID {
		t.Errorf("listed: %+v, %v", list, err)
	}
	if _, found, err := own.Find(t.Context(), "x"); found || err != nil {
		t.Errorf("the record of another name is found: %v, %v", found, err)
	}
}

// A push, or a newer result, between the survey and the mark wins.
func TestWhatChangedMeanwhileIsLeftAlone(t *testing.T) {
	coll := database(t).Collection("calls")
	store := calls.NewStore(coll)
	for _, id := range []string{"never", "never-now-pushed", "failed", "failed-now-pushed", "stored-again", "platform", "platform-now-ok", "odd", "odd-now-pushed"} {
		doc := bson.M{"_id": id, "completed_at": noon, "bot_id": "bot"}
		switch id {
		case "failed", "failed-now-pushed", "stored-again":
			doc["post_call_push_result"] = bson.M{"status": "failed", "completed_at": noon, "pushed_at": noon, "attempts": 9, "http_status": nil, "first_attempt_at": noon}
		case "odd", "odd-now-pushed":
			doc["post_call_push_result"] = bson.A{"nobody's"}
		case "platform", "platform-now-ok":
			doc["post_call_push_result"] = bson.M{"status": "failed", "response_body": "theirs"}
		}
		if _, err := coll.InsertOne(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
	}
	survey := inspect.Selection{Store: store, Bots: setOf(t, pushes("bot"))}
	plan, err := Find(t.Context(), &survey, Ask{Query: inspect.Query{Since: noon, Until: noon, States: usualStates}}, "")
	if err != nil || plan.Calls() != 9 {
		t.Fatalf("%d calls, %v", plan.Calls(), err)
	}
	set := func(id string, fields bson.D) {
		if _, err := coll.UpdateByID(t.Context(), id, bson.D{{Key: "$set", Value: fields}}); err != nil {
			t.Fatal(err)
		}
	}
	ok := bson.M{"status": "ok", "completed_at": noon, "pushed_at": noon.Add(time.Minute), "attempts": 1}
	set("never-now-pushed", bson.D{{Key: "post_call_push_result", Value: ok}})
	set("odd-now-pushed", bson.D{{Key: "post_call_push_result", Value: ok}})
	set("platform-now-ok", bson.D{{Key: "post_call_push_result.status", Value: "ok"}})
	set("failed-now-pushed", bson.D{{Key: "post_call_push_result", Value: ok}})
	set("stored-again", bson.D{{Key: "completed_at", Value: noon.Add(time.Hour)}})

	var marks []calls.Mark
	for _, c := range plan.calls {
		marks = append(marks, calls.Mark{Snapshot: c, ReplayID: "r", At: noon.Add(time.Hour), Slot: resume.Slot(c.ID)})
	}
	for round, want := range []int{4, 1} { // a second time: only what had a result before can be told apart
		if n, _, err := store.MarkDue(t.Context(), marks); err != nil || n != want {
			t.Errorf("round %d: %d marked, %v", round, n, err)
		}
	}
	marked := make(map[string]calls.Call)
	err = store.Select(t.Context(), calls.Stored{From: noon, To: noon, ReplayID: "r"}, func(c calls.Call) error {
		marked[c.ID.StringValue()] = c
		return nil
	})
	if err != nil || len(marked) != 4 {
		t.Fatalf("%v, %v", marked, err)
	}
	for _, id := range []string{"never", "failed", "platform", "odd"} {
		c := marked[id]
		if c.Pushed.Attempts != 0 || !c.Pushed.NextAttemptAt.Equal(noon.Add(time.Hour)) || !c.Pushed.CompletedAt.Equal(noon) ||
			c.Pushed.Status != "failed" || !c.Pushed.FirstAttemptAt.IsZero() {
			t.Errorf("%s: %+v", id, c.Pushed)
		}
		if id != "failed" && c.Pushed.DeliveryID != c.DeliveryID() {
			t.Errorf("%s has the delivery id %q", id, c.Pushed.DeliveryID)
		}
	}
}
