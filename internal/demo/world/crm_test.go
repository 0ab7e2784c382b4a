package world

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// send posts a body as a delivery.
func send(handler http.Handler, delivery string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/hook?key=1", body)
	r.Header.Set("Idempotency-Key", delivery)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func TestCRMCountsTheRequestsOfEachDelivery(t *testing.T) {
	var mu sync.Mutex
	numbers := make(map[string]int)
	crm := NewCRM(func(r Request) Answer {
		mu.Lock()
		defer mu.Unlock()
		numbers[r.Delivery] += r.Number
		if r.Path != "/hook" || r.Query != "key=1" || string(r.Body) != "body of "+r.Delivery {
			t.Errorf("%+v", r)
		}
		return Answer{Status: 201, Body: "stored", Header: map[string]string{"Retry-After": "1"}}
	})
	var sending sync.WaitGroup
	for _, delivery := range []string{"a", "b", "a", "a"} {
		sending.Go(func() {
			if w := send(crm, delivery, strings.NewReader("body of "+delivery)); w.Code != 201 || w.Body.String() != "stored" || w.Header().Get("Retry-After") != "1" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	sending.Wait()
	if numbers["a"] != 1+2+3 || numbers["b"] != 1 {
		t.Errorf("sums of the numbers: %v", numbers)
	}
}

func TestCRMAnswersWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		time.AfterFunc(time.Minute, func() { close(until) })
		began := time.Now()
		send(NewCRM(func(Request) Answer { return Answer{After: time.Second, Until: until} }), "a", http.NoBody)
		if took := time.Since(began); took != time.Minute {
			t.Errorf("answered after %v", took)
		}
	})
}

func TestCRMHangsUp(t *testing.T) {
	defer func() {
		if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			t.Errorf("ended with %v", r)
		}
	}()
	send(NewCRM(func(Request) Answer { return Answer{Hangup: true} }), "a", http.NoBody)
}

// broken is a body whose sender dies.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestCRMReceivesNoHalfRequest(t *testing.T) {
	crm := NewCRM(func(Request) Answer {
		t.Error("received")
		return Answer{}
	})
	if w := send(crm, "a", broken{}); w.Code != http.StatusBadRequest {
		t.Errorf("status %d", w.Code)
	}
}
