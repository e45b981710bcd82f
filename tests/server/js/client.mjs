// Runs every check named in `checks` with the official JavaScript client and prints one JSON object
// of what each found. Arguments: the server's address, a directory whose node_modules hold openai.
import { createRequire } from "node:module";

const [url, packages] = process.argv.slice(2);
const load = createRequire(`${packages}/`);
const OpenAI = load("openai").default;

const model = "loopcoder-nano";
const prompt = "def fibonacci(n):\n";
const messages = [{ role: "user", content: "Write a function that adds two numbers." }];
const settled = { model, temperature: 0.9, seed: 7, max_tokens: 24 };
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: {
        type: "object",
        properties: { city: { type: "string", enum: ["Oslo", "Rome"] } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  },
];

const checks = {
  async models() {
    const listed = [];
    for await (const one of client.models.list()) listed.push(one.id);
    return { listed, one: (await client.models.retrieve(model)).id };
  },

  async completion() {
    const whole = await client.completions.create({ ...settled, prompt });
    let text = "";
    let usage = null;
    const stream = await client.completions.create({
      ...settled,
      prompt,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? "";
      usage = chunk.usage ?? usage;
    }
    return { whole: whole.choices[0].text, text, usage, expected: whole.usage };
  },

  async chat() {
    const whole = await client.chat.completions.create({ ...settled, messages });
    const pieces = [];
    const stream = await client.chat.completions.create({ ...settled, messages, stream: true });
    for await (const chunk of stream) pieces.push(chunk.choices[0]?.delta?.content ?? "");
    return { whole: whole.choices[0].message.content, text: pieces.join(""), pieces: pieces.length };
  },

  async helper() {
    const runner = client.chat.completions.stream({ ...settled, messages });
    const deltas = [];
    runner.on("content", (delta) => deltas.push(delta));
    return { final: await runner.finalContent(), text: deltas.join("") };
  },

  async logprobs() {
    const given = await client.chat.completions.create({
      ...settled,
      messages,
      logprobs: true,
      top_logprobs: 2,
    });
    const entries = given.choices[0].logprobs.content;
    const text = Buffer.from(entries.flatMap((entry) => entry.bytes)).toString("utf8");
    return { text, content: given.choices[0].message.content, tops: entries[0].top_logprobs.length };
  },

  async schema() {
    const schema = {
      type: "object",
      properties: { n: { type: "integer", minimum: 0, maximum: 99 } },
      required: ["n"],
      additionalProperties: false,
    };
    const given = await client.chat.completions.create({
      ...settled,
      messages,
      response_format: { type: "json_schema", json_schema: { name: "n", strict: true, schema } },
    });
    return JSON.parse(given.choices[0].message.content);
  },

  async tools() {
    const asked = [];
    const runner = client.chat.completions.runTools(
      {
        ...settled,
        max_tokens: 100,
        stream: true,
        messages,
        tool_choice: { type: "function", function: { name: "get_weather" } },
        tools: [
          {
            type: "function",
            function: {
              ...tools[0].function,
              parse: JSON.parse,
              function: (args) => (asked.push(args.city), "12 degrees"),
            },
          },
        ],
      },
      { maxChatCompletions: 1 },
    );
    await runner.done().catch(() => {});
    return { asked };
  },

  async loops() {
    const texts = [];
    for (const loops of [1, 2]) {
      const given = await client.completions.create({
        model,
        prompt,
        temperature: 0,
        max_tokens: 24,
        loops,
        loop_lens: 2,
      });
      const { text, loop_lens: lens } = given.choices[0];
      texts.push({ text, tokens: lens.length, loops: lens[0].candidates.length });
    }
    return texts;
  },

  async errors() {
    const found = {};
    const trying = async (name, call) => {
      try {
        await call();
        found[name] = "no error";
      } catch (error) {
        found[name] = [error.constructor.name, error.status, error.code, error.type];
      }
    };
    await trying("bad", () => client.completions.create({ ...settled, prompt, temperature: -1 }));
    await trying("unknown", () => client.completions.create({ ...settled, prompt, colour: 1 }));
    await trying("model", () => client.completions.create({ ...settled, prompt, model: "gpt-9" }));
    await trying("stream", () =>
      client.chat.completions.create({ ...settled, messages, stream: true, top_p: 7 }),
    );
    return found;
  },

  async abort() {
    const stream = await client.completions.create({
      ...settled,
      prompt,
      max_tokens: 1500,
      stream: true,
      ignore_eos: true,
    });
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 3) break;
    return { chunks };
  },
};

const results = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    results[name] = await check();
  } catch (error) {
    results[name] = { failed: String(error?.stack ?? error) };
  }
}
console.log(JSON.stringify(results));
