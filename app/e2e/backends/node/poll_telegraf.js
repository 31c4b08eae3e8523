// An echo bot with telegraf that polls.
const { Telegraf } = require("telegraf");
const { message } = require("telegraf/filters");

const { BOT_TOKEN, API_ROOT, NAME, JOB_CHAT, DROP } = process.env;
const bot = new Telegraf(BOT_TOKEN, { telegram: { apiRoot: API_ROOT } });
bot.on(message("text"), (ctx) => ctx.reply(`${NAME}: ${ctx.message.text}`));
bot.on(message("document"), async (ctx) => {
  const url = await ctx.telegram.getFileLink(ctx.message.document.file_id);
  await ctx.replyWithDocument({ url: url.href, filename: "file" }, { caption: NAME });
});
if (JOB_CHAT) setInterval(() => bot.telegram.sendMessage(JOB_CHAT, `${NAME}: job`).catch((err) => console.log("job:", err.message)), 1000).unref();
bot.launch({ dropPendingUpdates: Boolean(DROP) });
process.once("SIGINT", () => bot.stop("SIGINT"));
process.once("SIGTERM", () => bot.stop("SIGTERM"));
