package calls

import "go.mongodb.org/mongo-driver/v2/mongo"

// Pipeline is the server-side filter and projection of the change stream.
func Pipeline() mongo.Pipeline { return nil }
