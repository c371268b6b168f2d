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

async function get(path) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(10_000) });
  if (answer.status === 401 && sessionStorage.getItem(KEY) !== token) return get(path); // one was given meanwhile
  if (answer.status === 401) throw new Refused(token ? "This token is not known." : "");
  if (!answer.ok) throw new Error((await answer.json()).detail || `answer ${answer.status}`);
  return answer;
}

export async function ask(path) {
  return (await get(path)).json();
}

// A link cannot carry the token: what it leads to is fetched with it, and shown as the text that it is.
async function follow(clicked) {
  clicked.preventDefault();
  const path = clicked.currentTarget.getAttribute("href");
  for (;;) {
    try {
      const text = new Blob([await (await get(path)).text()], { type: "text/plain;charset=utf-8" });
      location.assign(URL.createObjectURL(text));
      return;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      await askForToken(error.message);
    }
  }
}

for (const link of document.querySelectorAll("a[data-token]")) link.addEventListener("click", follow);

let asked = null;

// Show the form; resolves when a token was given, for whoever waits for one.
export function askForToken(message) {
  if (message) {
    note.textContent = message;
    sessionStorage.removeItem(KEY);
  }
  form.hidden = false;
  input.focus();
  asked ??= new Promise((resolve) => {
    form.onsubmit = (submitted) => {
      submitted.preventDefault();
      sessionStorage.setItem(KEY, input.value.trim());
      input.value = "";
      form.hidden = true;
      asked = null;
      resolve();
    };
  });
  return asked;
}

// Bidirectional controls show what follows in another order than it has; they are spelled out instead.
export function visible(text) {
  return String(text).replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// Whatever comes from a device only ever becomes text.
export function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = visible(text);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, visible(value));
  return made;
}
