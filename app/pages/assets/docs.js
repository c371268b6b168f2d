// The API document as a page: every operation with its parameters, bodies and answers.

import { ask, askForToken, element, Refused } from "./session.js";

const content = document.getElementById("content");
const status = document.getElementById("status");

function show(document_) {
  content.append(element("p", document_.info.description));
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
  box.append(head, element("p", operation.description ?? ""));
  if (operation.parameters?.length) box.append(parameters(operation.parameters));
  for (const [type, body] of Object.entries(operation.requestBody?.content ?? {})) box.append(...examples(`Body, ${type}`, body));
  for (const [code, answer] of Object.entries(operation.responses)) {
    box.append(element("h3", `${code} ${answer.description}`));
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
      element("td", description ?? schema?.description ?? "", { "data-label": "Meaning" }),
    );
    body.append(line);
  }
  table.append(body);
  return table;
}

function kind(schema = {}) {
  const one = schema.anyOf?.find((option) => option.type !== "null") ?? schema;
  const choices = one.enum ? one.enum.join(" | ") : [one.type, one.format].filter(Boolean).join(", ");
  return schema.default === undefined ? choices : `${choices}, default ${schema.default}`;
}

function examples(title, { example, examples: several = {} }) {
  const all = example === undefined ? Object.values(several) : [{ value: example }];
  return all.flatMap(({ summary, value }) => [
    element("p", summary ? `${title}: ${summary}` : title, { class: "quiet" }),
    element("pre", typeof value === "string" ? value : JSON.stringify(value, null, 2)),
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
