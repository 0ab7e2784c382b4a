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

// learn makes the credentials of changed bots known, and forgets those that went
// with earlier versions. The caller holds mu.
func (c *Cache) learn(changes map[idKey]change) {
	r := c.o.Secrets
	if r == nil {
		return
	}
	now := time.Now()
	for _, ch := range changes {
		if ch.after != nil && ch.after.Push != nil {
			r.Add(ch.after.Push.Secrets...)
		}
		if ch.before != nil && ch.before.Push != nil && len(ch.before.Push.Secrets) > 0 {
			c.retired = append(c.retired, retired{at: now, values: ch.before.Push.Secrets})
		}
	}
	for len(c.retired) > 0 && now.Sub(c.retired[0].at) >= retireAfter {
		r.Remove(c.retired[0].values...)
		c.retired = c.retired[1:]
	}
}
