// Package chaos holds one proof and no code: several real watcher processes on
// one database, killed, paused, cut off and reset at random while thousands of
// calls arrive, lose no call.
package chaos
