// An echo bot with telegraf. It answers an update after handling it, 500 if that failed.
const http = require("http");
const { Telegraf } = require("telegraf");
const { message } = require("telegraf/filters");

const { BOT_TOKEN, API_ROOT, SECRET, PORT, NAME } = process.env;
const bot = new Telegraf(BOT_TOKEN, { telegram: { apiRoot: API_ROOT }, handlerTimeout: 55_000 });
bot.on(message("text"), (ctx) => ctx.reply(`${NAME}: ${ctx.message.text}`));
bot.catch((err) => { throw err; });
http.createServer(async (req, res) => {
  if (req.headers["x-telegram-bot-api-secret-token"] !== SECRET) return res.writeHead(403).end();
  try {
    let body = "";
    for await (const chunk of req.setEncoding("utf8")) body += chunk;
    await bot.handleUpdate(JSON.parse(body));
    res.writeHead(200).end();
  } catch (err) {
    console.error(err);
    res.writeHead(500).end();
  }
}).listen(PORT);
