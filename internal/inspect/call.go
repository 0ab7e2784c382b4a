package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/skips"
)

// Ask says what of a call is wanted beside what stands on it.
type Ask struct {
	Payload bool        // what would be sent now
	Bot     bson.Raw    // another bot document to compare that with; nil for none
	Link    LinkChecker // looks whether the recording link opens; nil leaves it out
}

// LinkChecker asks for a URL and returns the status of the answer; *push.Client is
// the real one, which keeps to the network settings.
type LinkChecker interface {
	Reach(ctx context.Context, url string) (status int, err error)
}

// The bounds of a look-up.
const (
	// MostReports is how many calls of one session are reported on, the newest.
	MostReports  = 10
	mostSessions = 1000 // calls of one session that are looked at
	mostIDText   = 1024 // bytes of an id that is asked for

	// scanTime is for the search of a delivery id, which has no index on the calls.
	scanTime = 30 * time.Second
)

var errScanTime = errors.New("the search for the delivery id took too long")

// NotFoundError says that nothing is known by an id, and where it was looked for.
type NotFoundError struct {
	Text   string
	Looked []string
	// Skips is what the skip log says, of a call that is gone.
	Skips []Skip
}

func (e *NotFoundError) Error() string {
	text := fmt.Sprintf("no call is known by %q; looked for it as %s", e.Text, strings.Join(e.Looked, ", as "))
	if len(e.Skips) > 0 {
		s := &e.Skips[0]
		text += fmt.Sprintf("; the skip log has it: %s, at %s", s.Reason, s.At.Format(time.RFC3339))
	}
	return text
}

// Call tells what is known of a call: by its _id in text form, by its session id,
// of which there may be several calls, the newest result first, or by a delivery
// id. The last has no index on the calls: it reads all of them, for 30 s at most,
// unless the skip log knows it. The error is a *NotFoundError, or MongoDB's.
func (i *Inspector) Call(ctx context.Context, text string, ask Ask) ([]Report, error) {
	s, err := i.inquiry(ctx, ask) // the positions are read before the call is
	if err != nil {
		return nil, err
	}
	docs, err := i.find(ctx, text)
	if err != nil {
		return nil, err
	}
	reports := make([]Report, 0, len(docs))
	for _, doc := range docs {
		r, err := s.report(ctx, doc)
		if err != nil {
			return nil, err
		}
		reports = append(reports, *r)
	}
	return reports, nil
}

// find returns the documents of the calls that a text means.
func (i *Inspector) find(ctx context.Context, text string) ([]bson.Raw, error) {
	missing := &NotFoundError{Text: text[:min(len(text), mostIDText)]}
	forms := calls.IDFormsOfText(text)
	if len(forms) == 0 || len(text) > mostIDText {
		return nil, missing
	}
	missing.looked("_id of %s", i.o.Calls)
	docs, err := i.read(ctx, forms, true)
	if len(docs) > 0 || err != nil {
		return docs, err
	}
	missing.looked("session_id of %s", i.o.Calls)
	ids, err := i.bySession(ctx, forms)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 && isDeliveryID(text) {
		missing.looked("delivery id in %s", i.o.Skips)
		missing.looked("delivery id of all outcomes and attempts in %s", i.o.Calls)
		if ids, err = i.byDelivery(ctx, text, missing); err != nil {
			return nil, err
		}
	}
	if docs, err = i.read(ctx, ids, false); len(docs) > 0 || err != nil {
		return docs, err
	}
	for _, id := range forms {
		logged, err := i.skipsOf(ctx, id)
		if err != nil {
			return nil, err
		}
		missing.Skips = append(missing.Skips, logged...)
	}
	return nil, missing
}

func (e *NotFoundError) looked(as string, coll *mongo.Collection) {
	if coll != nil {
		e.Looked = append(e.Looked, fmt.Sprintf(as, coll.Name()))
	}
}

// isDeliveryID reports whether a text has the form of one.
func isDeliveryID(text string) bool {
	return len(text) == 32 && strings.Trim(text, "0123456789abcdef") == ""
}

// read reads calls by _id, one at a time, for each may be as large as a document may
// be; only the first that is there when they are forms of one id.
func (i *Inspector) read(ctx context.Context, ids []bson.RawValue, one bool) ([]bson.Raw, error) {
	var docs []bson.Raw
	for _, id := range ids {
		doc, err := i.o.Calls.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Raw()
		switch {
		case errors.Is(err, mongo.ErrNoDocuments):
			continue
		case err != nil:
			return nil, fmt.Errorf("read the call: %w", err)
		}
		if docs = append(docs, doc); one {
			break
		}
	}
	return docs, nil
}

// bySession returns the ids of the calls of a session, the newest result first. The
// sorting is done here: a server would hold whole documents for it.
func (i *Inspector) bySession(ctx context.Context, forms []bson.RawValue) ([]bson.RawValue, error) {
	cursor, err := i.o.Calls.Find(ctx, bson.D{{Key: "session_id", Value: bson.D{{Key: "$in", Value: forms}}}},
		options.Find().SetProjection(bson.D{{Key: "completed_at", Value: 1}}).SetLimit(mostSessions))
	var docs []bson.Raw
	if err == nil {
		err = cursor.All(ctx, &docs)
	}
	if err != nil {
		return nil, fmt.Errorf("find the calls of a session: %w", err)
	}
	found := make([]calls.Call, len(docs))
	for n := range docs {
		found[n] = calls.Decode(docs[n])
	}
	slices.SortStableFunc(found, func(a, b calls.Call) int { return b.CompletedAt.Compare(a.CompletedAt) })
	var ids []bson.RawValue
	for n := range found[:min(len(found), MostReports)] {
		ids = append(ids, found[n].ID)
	}
	return ids, nil
}

// byDelivery returns the id of the call of a delivery.
func (i *Inspector) byDelivery(ctx context.Context, text string, missing *NotFoundError) ([]bson.RawValue, error) {
	if i.o.Skips != nil {
		entry, err := skips.OfDelivery(ctx, i.o.Skips, text)
		if err != nil {
			return nil, err
		}
		if entry != nil {
			missing.Skips = append(missing.Skips, skipOf(entry))
			return []bson.RawValue{entry.Call}, nil
		}
	}
	scan, cancel := context.WithTimeoutCause(ctx, scanTime, errScanTime)
	defer cancel()
	doc, err := i.o.Calls.FindOne(scan, bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: "post_call_push_result.delivery_id", Value: text}},
		bson.D{{Key: "integration_log.delivery_id", Value: text}},
	}}}, options.FindOne().SetProjection(bson.D{{Key: "_id", Value: 1}})).Raw()
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return nil, nil
	case err != nil && ctx.Err() == nil && scan.Err() != nil:
		return nil, fmt.Errorf("a delivery id has no index on %s, and %v were not enough to read all of it; its session id is quick: %w",
			i.o.Calls.Name(), scanTime, err)
	case err != nil:
		return nil, fmt.Errorf("find the call of a delivery: %w", err)
	}
	return []bson.RawValue{doc.Lookup("_id")}, nil
}

// skipsOf is what the skip log says of a call.
func (i *Inspector) skipsOf(ctx context.Context, id bson.RawValue) ([]Skip, error) {
	found := []Skip{}
	if i.o.Skips == nil {
		return found, nil
	}
	entries, err := skips.OfCall(ctx, i.o.Skips, id)
	for n := range entries {
		found = append(found, skipOf(&entries[n]))
	}
	return found, err
}

func skipOf(e *skips.Entry) Skip {
	return Skip{At: e.At.UTC(), Reason: e.Reason, CompletedAt: e.CompletedAt.UTC(), Bot: calls.IDText(e.Bot), DeliveryID: e.ID}
}

// botOf reads the bot of a call; nil when it has no document.
func (i *Inspector) botOf(ctx context.Context, call *calls.Call) (*bots.Bot, error) {
	found, err := bots.ReadSome(ctx, i.o.Bots, calls.IDForms(call.Bot), i.o.Compile)
	if err != nil {
		return nil, err
	}
	return bots.NewSet(found).Bot(call.Bot), nil
}
