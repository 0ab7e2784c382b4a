package app

import (
	"cmp"
	"log/slog"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/resources"
)

// share gives the parts their share of the memory and of the file descriptors, and
// says where a setting asks for more than there is.
func share(cfg *config.Config, limit int64, logger *slog.Logger) (held int64, conns resources.Connections) {
	held = cmp.Or(int64(cfg.Memory), resources.Held(limit))
	files := resources.Files()
	conns = resources.Connect(files, cfg.Concurrency)
	logger.Info("limits of the process", "memory_limit", limit, "memory", held, "files", files, "connections", conns.Open)
	if limit > 0 && held > limit/2 {
		logger.Warn("calls and payloads may take more than half of the memory limit; lower --memory or raise the limit",
			"memory", config.Bytes(held), "memory_limit", config.Bytes(limit))
	}
	if conns.Slots < cfg.Concurrency {
		logger.Warn("fewer calls are pushed at the same time than --concurrency says: the process may open too few files (ulimit -n, LimitNOFILE)",
			slog.Int("concurrency", cfg.Concurrency), slog.Int("slots", conns.Slots), slog.Int("files", files))
	}
	return held, conns
}
