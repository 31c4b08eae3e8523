// An echo bot with node-telegram-bot-api that polls.
const { Bot, InputFile } = require("node-telegram-bot-api");
const { run } = require("node-telegram-bot-api/node");

const { BOT_TOKEN, API_ROOT, NAME, JOB_CHAT, DROP } = process.env;
const bot = new Bot(BOT_TOKEN, { apiRoot: API_ROOT });
bot.on("message", async (ctx) => {
  if (ctx.message.text) return ctx.reply(`${NAME}: ${ctx.message.text}`);
  const file = await ctx.api.getFile({ file_id: ctx.message.document.file_id });
  const answer = await fetch(`${API_ROOT}/file/bot${BOT_TOKEN}/${file.file_path}`);
  const document = new InputFile(new Uint8Array(await answer.arrayBuffer()), { filename: "file" });
  await ctx.api.sendDocument({ chat_id: ctx.message.chat.id, document, caption: NAME });
});
if (JOB_CHAT) setInterval(() => bot.api.sendMessage({ chat_id: JOB_CHAT, text: `${NAME}: job` }).catch((err) => console.log("job:", err.message)), 1000).unref();
async function main() {
  if (DROP) await bot.api.deleteWebhook({ drop_pending_updates: true });
  await run(bot);
}
main();
