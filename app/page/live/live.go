// Package live serves pages and keeps them live: files with a strict Content-Security-Policy, and server-sent events that
// cost their source the same for one watcher as for a thousand.
//
// It owns the headers of pages, and the bounds on watchers. It may import page.
package live

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	"habot/app/page"
)

// policy has a browser load nothing but a page's own files, run no script within it, and show it in no other page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// headers are those of every file of a page.
func headers(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// kind is the Content-Type of a file, by its name. The system's own table is not asked: a scratch image has none.
func kind(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "application/octet-stream"
	}
}

// ServeFile answers with the file of a name from the first folder that has it, or 404. A name is that of a file right in
// a folder.
func ServeFile(w http.ResponseWriter, name string, folders ...page.Folder) {
	headers(w.Header())
	for _, folder := range folders {
		if strings.Contains(name, "/") {
			break
		}
		if raw, err := folder.Files.ReadFile(path.Join(folder.Path, name)); err == nil {
			w.Header().Set("Content-Type", kind(name))
			_, _ = w.Write(raw) // a browser that has gone needs none
			return
		}
	}
	http.Error(w, "no such file", http.StatusNotFound)
}

// SameSite tells whether a request may come from a page of the same address, or from no page at all. Browsers name the
// page that a request comes from.
func SameSite(req *http.Request) bool {
	if site := req.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origin := req.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == req.Host
}

// WantsPage tells whether a request is a browser's for a page: its Accept names HTML.
func WantsPage(req *http.Request) bool {
	for kind := range strings.SplitSeq(strings.Join(req.Header.Values("Accept"), ","), ",") {
		if kind, _, _ = strings.Cut(kind, ";"); strings.TrimSpace(kind) == "text/html" {
			return true
		}
	}
	return false
}
