package simulator

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"time"

	"habot/app/simulator/playground"
)

type method func(caller playground.Who, p params, files uploads) answer

// methods are those that bots in tests use, by name in lower case, but for getUpdates.
func (s *Simulator) methods() map[string]method {
	plain := func(m func(playground.Who, params) answer) method {
		return func(caller playground.Who, p params, _ uploads) answer { return m(caller, p) }
	}
	return map[string]method{
		"getme":               plain(s.getMe),
		"sendmessage":         plain(s.sendMessage),
		"sendchataction":      plain(s.sendChatAction),
		"senddocument":        s.sendFile(fileDocument),
		"sendphoto":           s.sendFile(filePhoto),
		"getfile":             plain(s.getFile),
		"answercallbackquery": plain(s.answerCallbackQuery),
		"setmycommands":       plain(s.setMyCommands),
		"getmycommands":       plain(s.getMyCommands),
		"deletemycommands":    plain(s.deleteMyCommands),
		"setwebhook":          plain(s.setWebhook),
		"deletewebhook":       plain(s.deleteWebhook),
		"getwebhookinfo":      plain(s.getWebhookInfo),
	}
}

func (s *Simulator) me() map[string]any {
	return map[string]any{
		"id": s.botID(), "is_bot": true, "first_name": "habot demo", "username": "habot_demo_bot",
		"can_join_groups": true, "can_read_all_group_messages": false, "supports_inline_queries": false,
	}
}

func (s *Simulator) getMe(playground.Who, params) answer { return answer{OK: true, Result: s.me()} }

func (s *Simulator) sendMessage(caller playground.Who, p params) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p["text"] == "" {
		return badRequest("message text is empty")
	}
	to, refused := s.find(p["chat_id"])
	if refused != nil {
		return *refused
	}
	topic, refused := to.topic(p)
	if refused != nil {
		return *refused
	}
	text, wrong := plainText(p["text"], p["parse_mode"])
	if wrong != "" {
		return badRequest("can't parse entities: " + wrong)
	}
	switch {
	case strings.TrimSpace(text) == "":
		return badRequest("message text is empty")
	case length(text) > maxText:
		return badRequest("message is too long")
	}
	if wrong := checkButtons(p["reply_markup"]); wrong != "" {
		return badRequest(wrong)
	}
	now := time.Now()
	if refused := s.limit.takes(to, now); refused != nil {
		return *refused
	}
	s.account.answered(now, caller, to.id, topic, text)
	message := s.sentMessage(now, to, topic)
	message["text"] = text
	return answer{OK: true, Result: message}
}

// maxCallbackData is the bound on what a button gives back, in bytes.
const maxCallbackData = 64

// checkButtons is the real server's complaint about a message's inline keyboard.
func checkButtons(markup string) string {
	if markup == "" {
		return ""
	}
	var keyboard struct {
		Rows [][]struct {
			Data *string `json:"callback_data"`
		} `json:"inline_keyboard"`
	}
	if err := json.Unmarshal([]byte(markup), &keyboard); err != nil {
		return "can't parse reply keyboard markup JSON object"
	}
	for _, row := range keyboard.Rows {
		for _, button := range row {
			if button.Data != nil && (len(*button.Data) < 1 || len(*button.Data) > maxCallbackData) {
				return "BUTTON_DATA_INVALID"
			}
		}
	}
	return ""
}

func (s *Simulator) sendChatAction(_ playground.Who, p params) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, refused := s.find(p["chat_id"]); refused != nil {
		return *refused
	}
	if p["action"] == "" {
		return badRequest("wrong parameter action in request")
	}
	return answer{OK: true, Result: true}
}

func (s *Simulator) answerCallbackQuery(_ playground.Who, p params) answer {
	if p["callback_query_id"] == "" {
		return badRequest("query is too old and response timeout expired or query ID is invalid")
	}
	return answer{OK: true, Result: true}
}

var commandName = regexp.MustCompile(`^[a-z0-9_]{1,32}$`)

const (
	maxCommands    = 100
	maxDescription = 256
	// maxScopes bounds the scopes that commands are kept for.
	maxScopes = 1000
)

// scope names the chats and users that commands are for.
func (s *Simulator) scope(p params) (string, *answer) {
	var scope struct {
		Type   string      `json:"type"`
		ChatID json.Number `json:"chat_id"`
		UserID json.Number `json:"user_id"`
	}
	if raw := p["scope"]; raw != "" {
		if err := json.Unmarshal([]byte(raw), &scope); err != nil {
			return "", refuse(badRequest("can't parse BotCommandScope"))
		}
	}
	if len(p["language_code"]) > 2 {
		return "", refuse(badRequest("invalid language code specified"))
	}
	switch scope.Type {
	case "", "default":
		return "default" + p["language_code"], nil
	case "all_private_chats", "all_group_chats", "all_chat_administrators":
		return scope.Type + p["language_code"], nil
	case "chat", "chat_administrators", "chat_member":
		if _, refused := s.find(scope.ChatID.String()); refused != nil {
			return "", refused
		}
		return strings.Join([]string{scope.Type, scope.ChatID.String(), scope.UserID.String(), p["language_code"]}, " "), nil
	default:
		return "", refuse(badRequest("can't parse BotCommandScope: unsupported type specified"))
	}
}

func (s *Simulator) setMyCommands(_ playground.Who, p params) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []struct {
		Command     string `json:"command"`
		Description string `json:"description"`
	}
	if err := json.Unmarshal([]byte(p["commands"]), &list); err != nil {
		return badRequest("can't parse commands JSON object")
	}
	for _, c := range list {
		if n := length(c.Description); !commandName.MatchString(strings.TrimPrefix(c.Command, "/")) || n < 1 || n > maxDescription {
			return badRequest("BOT_COMMAND_INVALID")
		}
	}
	if len(list) > maxCommands {
		return badRequest("too many commands")
	}
	scope, refused := s.scope(p)
	if refused != nil {
		return *refused
	}
	if _, known := s.commands[scope]; !known && len(s.commands) >= maxScopes {
		return badRequest("too many scopes")
	}
	s.commands[scope] = json.RawMessage(p["commands"])
	return answer{OK: true, Result: true}
}

func (s *Simulator) getMyCommands(_ playground.Who, p params) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	scope, refused := s.scope(p)
	if refused != nil {
		return *refused
	}
	list, ok := s.commands[scope]
	if !ok {
		list = json.RawMessage("[]")
	}
	return answer{OK: true, Result: list}
}

func (s *Simulator) deleteMyCommands(_ playground.Who, p params) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	scope, refused := s.scope(p)
	if refused != nil {
		return *refused
	}
	delete(s.commands, scope)
	return answer{OK: true, Result: true}
}

var secretToken = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

const (
	maxSecret          = 256
	defaultConnections = 40
	maxConnections     = 100
)

func (s *Simulator) setWebhook(caller playground.Who, p params) answer {
	target := p["url"]
	if target == "" {
		return s.deleteWebhook(caller, p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.bot.nextWebhook) {
		return tooMany(1)
	}
	s.bot.nextWebhook = now.Add(webhookEvery)
	if u, err := url.Parse(target); err != nil || u.Scheme != "https" || u.Host == "" {
		return badRequest("bad webhook: An HTTPS URL must be provided for webhook")
	}
	if len(p["secret_token"]) > maxSecret {
		return badRequest("secret token is too long")
	}
	if secret := p["secret_token"]; secret != "" && !secretToken.MatchString(secret) {
		return badRequest("secret token contains unallowed characters")
	}
	s.bot.allow(p.list("allowed_updates"))
	drop := p.truth("drop_pending_updates")
	if drop {
		s.account.dropped(s.bot.queue.clear(), "setWebhook")
	}
	hook := webhookSettings{
		url: target, secret: p["secret_token"], ipAddress: p["ip_address"],
		maxConnections: min(max(p.number("max_connections", defaultConnections), 1), maxConnections),
	}
	if s.bot.webhook == hook && !drop {
		return answer{OK: true, Result: true, Description: "Webhook is already set"}
	}
	s.abortWaiting(now, conflictSetHook)
	s.bot.webhook = hook
	return answer{OK: true, Result: true, Description: "Webhook was set"}
}

func (s *Simulator) deleteWebhook(_ playground.Who, p params) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	drop := p.truth("drop_pending_updates")
	if drop {
		s.account.dropped(s.bot.queue.clear(), "deleteWebhook")
	}
	if s.bot.webhook.url == "" {
		if !drop {
			s.bot.allow(p.list("allowed_updates")) // only where nothing else is to do, as in the real server
		}
		return answer{OK: true, Result: true, Description: "Webhook is already deleted"}
	}
	s.bot.webhook = webhookSettings{}
	return answer{OK: true, Result: true, Description: "Webhook was deleted"}
}

func (s *Simulator) getWebhookInfo(playground.Who, params) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	hook := s.bot.webhook
	info := map[string]any{"url": hook.url, "has_custom_certificate": false, "pending_update_count": len(s.bot.queue.waiting)}
	if hook.url != "" {
		info["max_connections"] = hook.maxConnections
		if hook.ipAddress != "" {
			info["ip_address"] = hook.ipAddress
		}
	}
	if s.bot.allowed != nil {
		info["allowed_updates"] = s.bot.allowed
	}
	return answer{OK: true, Result: info}
}
