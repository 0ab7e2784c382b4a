package localmongo

import (
	_ "code.dny.dev/ssrf"
	_ "github.com/256dpi/lungo/bsonkit"
	_ "github.com/256dpi/lungo/mongokit"
	_ "github.com/alecthomas/kong"
	_ "github.com/lmittmann/tint"
	_ "github.com/minio/minio-go/v7"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/prometheus/client_golang/prometheus/testutil"
	_ "github.com/sony/gobreaker/v2"
	_ "go.mongodb.org/mongo-driver/v2/mongo"
	_ "go.uber.org/goleak"
	_ "golang.org/x/oauth2/clientcredentials"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/time/rate"
	_ "pgregory.net/rapid"
)
