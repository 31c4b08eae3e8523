// Package playground is the model behind the simulator's page, and the page's own files: who polled when, the gaps between,
// Telegram's faults, what people and the bot wrote, and how long answers took.
//
// It is pure: it takes what happens, with the time at which it does, and returns what the page shows. It keeps the last
// minutes, bounded by numbers, and decides nothing. It may import page.
package playground

import (
	"embed"

	"habot/app/page"
)

//go:embed static
var static embed.FS

// Files are the page as browsers get it.
func Files() page.Folder { return page.Folder{Files: static, Path: "static"} }
