package botapi

import (
	"reflect"
	"strings"
	"testing"
)

func TestClassesOfMethods(t *testing.T) {
	t.Parallel()
	for class, methods := range map[Class]string{
		Poll:     "getUpdates",
		Local:    "getMe getWebhookInfo setWebhook deleteWebhook logOut LOGOUT close",
		Progress: "sendChatAction sendMessageDraft",
		SetUp:    "setMyCommands setMyName setMyDefaultAdministratorRights setMyProfilePhoto deleteMyCommands removeMyProfilePhoto setChatMenuButton",
		Read:     "getChat getFile getChatMember getMyCommands getUserGifts getChatMenuButton",
		Write: "sendMessage sendPhoto editMessageText deleteMessage answerCallbackQuery setMessageReaction banChatMember deleteStickerSet " +
			"setChatTitle createNewStickerSet notAMethod",
	} {
		for method := range strings.FieldsSeq(methods) {
			name, ok := MethodName(method)
			if got := ClassOf(name); !ok || got != class {
				t.Errorf("%s is of class %d, want %d", method, got, class)
			}
		}
	}
}

func TestWhatFrameworksBeginWith(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]bool{"getme": true, "deletewebhook": true, "getupdates": false, "sendmessage": false, "setmycommands": false} {
		if StartsUp(method) != want {
			t.Errorf("%s", method)
		}
	}
}

func TestNamesThatACallNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method string
		params Params
		want   Names
	}{
		{"sendmessage", Params{"chat_id": "-1001234567890"}, Names{Chats: []int64{-1001234567890}}},
		{"sendmessage", Params{"chat_id": "@channel"}, Names{}},
		{"sendmessage", Params{}, Names{}},
		{"forwardmessage", Params{"chat_id": "1", "from_chat_id": "2"}, Names{Chats: []int64{1, 2}}},
		{"answercallbackquery", Params{"callback_query_id": "4382bfdwdsb323b2d9"}, Names{Query: "4382bfdwdsb323b2d9"}},
		{"answerinlinequery", Params{"inline_query_id": "7"}, Names{Query: "7"}},
		{"answershippingquery", Params{"shipping_query_id": "8"}, Names{Query: "8"}},
		{"answerprecheckoutquery", Params{"pre_checkout_query_id": "9"}, Names{Query: "9"}},
		{"answerguestquery", Params{"guest_query_id": "10"}, Names{Query: "10"}},
		{"sendchataction", Params{"chat_id": "1"}, Names{}},
		{"getchat", Params{"chat_id": "1"}, Names{}},
		{"setchatmenubutton", Params{"chat_id": "1"}, Names{}},
	} {
		got := NamesIn(c.method, c.params)
		if !reflect.DeepEqual(got, c.want) || got.IsZero() != (len(c.want.Chats) == 0 && c.want.Query == "") {
			t.Errorf("%s with %v names %+v, want %+v", c.method, c.params, got, c.want)
		}
	}
}
