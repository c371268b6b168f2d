// Asks the API, with the token of this tab where the server wants one: from the form, or from the link that `serve` printed.

const KEY = "headrace.token";
const form = document.getElementById("token-form");
const input = document.getElementById("token");
const note = document.getElementById("token-note");

export class Refused extends Error {}

// The token of a link (/#token=…) is kept by this tab and taken out of the address, which histories remember.
function takeFromLink() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  sessionStorage.setItem(KEY, token);
  history.replaceState(null, "", location.pathname + location.search);
}

takeFromLink();
addEventListener("hashchange", takeFromLink);

export async function ask(path) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(10_000) });
  if (answer.status === 401) throw new Refused(token ? "This token is not known." : "");
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail || `answer ${answer.status}`);
  return body;
}

// Show the form; resolves when a token was given.
export function askForToken(message) {
  if (message) {
    note.textContent = message;
    sessionStorage.removeItem(KEY);
  }
  form.hidden = false;
  input.focus();
  return new Promise((resolve) => {
    form.onsubmit = (submitted) => {
      submitted.preventDefault();
      sessionStorage.setItem(KEY, input.value.trim());
      input.value = "";
      form.hidden = true;
      resolve();
    };
  });
}

// Whatever comes from a device only ever becomes text.
export function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
