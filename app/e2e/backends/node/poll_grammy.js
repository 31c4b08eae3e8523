// An echo bot with grammY that polls: with its runner if RUNNER is set.
const { Bot, InputFile } = require("grammy");
const { run } = require("@grammyjs/runner");

const { BOT_TOKEN, API_ROOT, NAME, JOB_CHAT, DROP, RUNNER } = process.env;
const bot = new Bot(BOT_TOKEN, { client: { apiRoot: API_ROOT } });
bot.on("message:text", (ctx) => ctx.reply(`${NAME}: ${ctx.message.text}`));
bot.on("message:document", async (ctx) => {
  const file = await ctx.getFile();
  const url = `${API_ROOT}/file/bot${BOT_TOKEN}/${file.file_path}`;
  await ctx.replyWithDocument(new InputFile({ url }, "file"), { caption: NAME });
});
if (JOB_CHAT) setInterval(() => bot.api.sendMessage(JOB_CHAT, `${NAME}: job`).catch((err) => console.log("job:", err.message)), 1000).unref();
async function main() {
  if (RUNNER && DROP) await bot.api.deleteWebhook({ drop_pending_updates: true });
  const runner = RUNNER ? run(bot) : bot;
  process.once("SIGINT", () => runner.stop());
  process.once("SIGTERM", () => runner.stop());
  if (!RUNNER) await bot.start({ drop_pending_updates: Boolean(DROP) });
}
main();
