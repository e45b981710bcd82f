// Reads a Continue configuration with Continue's own reader and sends, with its own client, what it
// would for a chat and for a completion while typing. Arguments: the YAML file, a directory whose
// node_modules hold the two packages. Prints what came back as JSON.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [file, packages] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${packages}/node_modules/${name}/dist/index.js`));
const { parseConfigYaml, validateConfigYaml } = await load("@continuedev/config-yaml");
const { constructLlmApi } = await load("@continuedev/openai-adapters");

const config = parseConfigYaml(readFileSync(file, "utf8"));
const complaints = validateConfigYaml(config);
const [chat, completion] = config.models;
const signal = new AbortController().signal;

async function talk(model) {
  const pieces = [];
  const body = {
    model: model.model,
    messages: [{ role: "user", content: "Write a function that adds two numbers." }],
    max_tokens: 24,
    stream: true,
  };
  for await (const chunk of constructLlmApi(model).chatCompletionStream(body, signal)) {
    pieces.push(chunk.choices[0]?.delta?.content ?? "");
  }
  return pieces.join("");
}

async function fill(model, prefix, suffix) {
  const prompt = model.promptTemplates.autocomplete
    .replace("{{{prefix}}}", prefix)
    .replace("{{{suffix}}}", suffix);
  const pieces = [];
  const body = {
    model: model.model,
    prompt,
    max_tokens: model.defaultCompletionOptions.maxTokens,
    temperature: 0.01,
    stop: ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "/src/", "#- coding: utf-8", "```"],
    stream: true,
  };
  for await (const chunk of constructLlmApi(model).completionStream(body, signal)) {
    pieces.push(chunk.choices[0]?.text ?? "");
  }
  return { prompt, text: pieces.join("") };
}

const list = await constructLlmApi(chat).list();
const filled = await fill(completion, "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n");
console.log(
  JSON.stringify({
    complaints,
    models: list.map((model) => model.id),
    roles: config.models.map((model) => model.roles),
    chat: await talk(chat),
    ...filled,
  }),
);
