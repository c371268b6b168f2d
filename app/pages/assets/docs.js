// The API document as a page: every operation with its parameters, bodies and answers.

import { ask, askForToken, element, Refused, visible } from "./session.js";

const content = document.getElementById("content");
const status = document.getElementById("status");

function show(document_) {
  content.append(prose("p", document_.info.description));
  for (const [path, operations] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      content.append(shown(method.toUpperCase(), path, operation));
    }
  }
  status.dataset.state = "live";
  status.textContent = `version ${document_.info.version}`;
}

function shown(method, path, operation) {
  const box = element("details", undefined, { class: "card operation" });
  const head = element("summary");
  head.append(element("b", method, { class: "method" }), " ", element("code", path), " ", element("span", operation.summary ?? ""));
  box.append(head, prose("p", operation.description ?? ""));
  if (operation.parameters?.length) box.append(parameters(operation.parameters));
  if (operation.requestBody?.description) box.append(prose("p", operation.requestBody.description));
  for (const [type, body] of Object.entries(operation.requestBody?.content ?? {})) box.append(...examples(`Body, ${type}`, body));
  for (const [code, answer] of Object.entries(operation.responses)) {
    box.append(prose("h3", `${code} ${answer.description}`));
    for (const [type, body] of Object.entries(answer.content ?? {})) box.append(...examples(type, body));
  }
  return box;
}

function parameters(list) {
  const table = element("table");
  const body = element("tbody");
  for (const { name, in: place, required, schema, description } of list) {
    const line = element("tr");
    line.append(
      element("td", name, { class: "key", "data-label": "Name" }),
      element("td", required ? `${place}, required` : place, { "data-label": "In" }),
      element("td", kind(schema), { "data-label": "Type" }),
      prose("td", description ?? schema?.description ?? "", { "data-label": "Meaning" }),
    );
    body.append(line);
  }
  table.append(body);
  return table;
}

function kind(schema = {}) {
  const one = schema.anyOf?.find((option) => option.type !== "null") ?? schema;
  if (one.anyOf) return one.anyOf.map(kind).join(" or ");
  const choices = one.enum ? one.enum.join(" | ") : [one.type, one.format].filter(Boolean).join(", ");
  return schema.default === undefined ? choices : `${choices}, default ${schema.default}`;
}

// What stands between backticks is code.
function prose(tag, text, attributes) {
  const made = element(tag, "", attributes);
  text.split("`").forEach((part, index) => made.append(index % 2 ? element("code", part) : visible(part)));
  return made;
}

function written(title, value) {
  if (typeof value === "string") return value;
  return title.endsWith("x-www-form-urlencoded") ? new URLSearchParams(value).toString() : JSON.stringify(value, null, 2);
}

function examples(title, { example, examples: several = {} }) {
  const all = example === undefined ? Object.values(several) : [{ value: example }];
  return all.flatMap(({ summary, value }) => [
    element("p", summary ? `${title}: ${summary}` : title, { class: "quiet" }),
    element("pre", written(title, value)),
  ]);
}

async function run() {
  for (;;) {
    try {
      return show(await ask("/openapi.json"));
    } catch (error) {
      if (!(error instanceof Refused)) {
        status.dataset.state = "lost";
        status.textContent = error.message;
        return undefined;
      }
      await askForToken(error.message);
    }
  }
}

run();
