package push_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/cxbridge/watcher/pkg/push"
)

func Example() {
	answers := []int{http.StatusServiceUnavailable, http.StatusOK}
	crm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(answers[0])
		answers = answers[1:]
	}))
	defer crm.Close()

	client, err := push.NewClient(push.Options{
		Allow: []push.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}, // public addresses only, if not allowed
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	request := &push.Request{Method: http.MethodPost, URL: crm.URL + "/leads", Body: []byte(`{"name":"Asha"}`), Timeout: 5 * time.Second}
	schedule := push.Schedule{Delays: []time.Duration{time.Minute}}
	for attempt := 1; ; attempt++ {
		result := client.Send(context.Background(), request)
		fmt.Println(result.Class, result.Class.Status(), result.HTTPStatus)
		delay, why := schedule.Decide(attempt, 0, result, 1)
		if why != push.GiveUpNot {
			fmt.Println("ends:", why)
			return
		}
		fmt.Println("the next attempt is due in about a minute:", delay >= 30*time.Second && delay < 90*time.Second)
	}
	// Output:
	// busy rejected 503
	// the next attempt is due in about a minute: true
	// ok ok 200
	// ends: final
}
