package bots

import (
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

// retired are the credentials of a bot that changed or is gone.
type retired struct {
	at     time.Time
	values []secret.Text
}

// retireAfter is how long a credential that no bot has any more is still taken
// out of texts: longer than an attempt that was begun with it.
const retireAfter = time.Minute

// learn makes the credentials of a set known, and forgets those that went with
// an earlier one.
func (c *Cache) learn(next *Set) {
	r := c.o.Secrets
	if r == nil {
		return
	}
	now, before := time.Now(), c.Set()
	for id, b := range next.byID {
		if b != before.byID[id] && b.Push != nil {
			r.Add(b.Push.Secrets...)
		}
	}
	for id, b := range before.byID {
		if b != next.byID[id] && b.Push != nil && len(b.Push.Secrets) > 0 {
			c.retired = append(c.retired, retired{at: now, values: b.Push.Secrets})
		}
	}
	for len(c.retired) > 0 && now.Sub(c.retired[0].at) >= retireAfter {
		r.Remove(c.retired[0].values...)
		c.retired = c.retired[1:]
	}
}
