// An echo bot with node-telegram-bot-api 0.67 that polls.
const TelegramBot = require("node-telegram-bot-api-0");

const { BOT_TOKEN, API_ROOT, NAME, JOB_CHAT, DROP } = process.env;
const bot = new TelegramBot(BOT_TOKEN, { baseApiUrl: API_ROOT, polling: { autoStart: false } });
bot.on("text", (message) => bot.sendMessage(message.chat.id, `${NAME}: ${message.text}`));
bot.on("document", (message) => {
  bot.sendDocument(message.chat.id, bot.getFileStream(message.document.file_id), { caption: NAME }, { filename: "file", contentType: "application/octet-stream" });
});
if (JOB_CHAT) setInterval(() => bot.sendMessage(JOB_CHAT, `${NAME}: job`).catch((err) => console.log("job:", err.message)), 1000).unref();
async function main() {
  if (DROP) await bot.deleteWebHook({ drop_pending_updates: true });
  await bot.startPolling();
}
main();
