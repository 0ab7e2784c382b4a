package calls

import (
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Pipeline is the filter and projection of the change stream on the calls. It
// runs on the server and uses only fields of the event itself, so that a resume
// token stays valid.
//
// Through come the events that store a result: an update that sets
// completed_at, an insert or a replacement that holds it, unless it is null or
// the record is the agent desk's. An update does not say of which type its
// call is, so call_type is checked again after the call was loaded. A
// completed_at that is no time comes through too and is a call without a
// result: what is wrong with it is better logged than hidden. Through come also
// the events that end a stream; a stream that ends without one has no token to
// go on from.
//
// Of each event remain _id (the token), operationType, clusterTime,
// documentKey and completed_at.
func Pipeline() mongo.Pipeline {
	const updated, stored = "updateDescription.updatedFields.", "fullDocument."
	completed, callType := docFieldNames[docCompletedAt], docFieldNames[docCallType]
	set := bson.D{{Key: "$exists", Value: true}, {Key: "$ne", Value: nil}}
	notAgent := bson.D{{Key: "$ne", Value: CallTypeAgent}}
	in := func(operations ...string) bson.D {
		return bson.D{{Key: "$in", Value: operations}}
	}
	match := bson.D{{Key: "$or", Value: bson.A{
		bson.D{
			{Key: "operationType", Value: "update"},
			{Key: updated + completed, Value: set},
			{Key: updated + callType, Value: notAgent},
		},
		bson.D{
			{Key: "operationType", Value: in("insert", "replace")},
			{Key: stored + completed, Value: set},
			{Key: stored + callType, Value: notAgent},
		},
		bson.D{{Key: "operationType", Value: in("drop", "rename", "dropDatabase", "invalidate")}},
	}}}
	project := bson.D{
		{Key: "_id", Value: 1},
		{Key: "operationType", Value: 1},
		{Key: "clusterTime", Value: 1},
		{Key: "documentKey", Value: 1},
		{Key: completed, Value: bson.D{{Key: "$ifNull", Value: bson.A{
			"$" + updated + completed, "$" + stored + completed,
		}}}},
	}
	return mongo.Pipeline{
		{{Key: "$match", Value: match}},
		{{Key: "$project", Value: project}},
	}
}
