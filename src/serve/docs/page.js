// Shows what the OpenAPI document beside this page says, and sends requests as it describes them. Whatever comes from the
// document or an answer is shown as text: no markup is ever made of it.
"use strict";

/** The most characters of an answer that are shown. */
const SHOWN_MAX = 200000;

const byId = (id) => document.getElementById(id);
let contract = null;
/** What requests bear where the server asks for a credential; kept as long as the page is open, and nowhere else. */
let credential = "";
let fields = 0;

/** An element with attributes and children; strings become text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** What a reference within the document stands for; what stands beside the reference counts too. */
function resolve(value) {
  if (!value || typeof value.$ref !== "string") return value;
  let found = contract;
  for (const step of value.$ref.slice(2).split("/")) found = found[step.replaceAll("~1", "/").replaceAll("~0", "~")];
  return found;
}

function typeOf(schema) {
  if (schema === undefined || schema === true) return "any";
  const types = [].concat(schema.type ?? "any JSON").filter((type) => type !== "null");
  const name = types.join(" or ");
  if (schema.items && types.includes("array")) return `array of ${typeOf(schema.items)}`;
  return schema.format ? `${name} (${schema.format})` : name;
}

function columnsOf(name) {
  const row = contract.components.schemas[name];
  const properties = Object.entries(row?.properties ?? {});
  if (properties.length === 0) return make("p", { class: "note" }, "No column is shown.");
  const body = make("tbody");
  for (const [column, schema] of properties) {
    const nullable = schema.type === undefined || [].concat(schema.type).includes("null");
    body.append(make("tr", {},
      make("th", { scope: "row", class: "mono" }, column),
      make("td", {}, typeOf(schema)),
      make("td", {}, nullable ? "yes" : "no"),
      make("td", {}, schema.description ?? "")));
  }
  const titles = ["Column", "Type", "May be null", "Description"].map((title) => make("th", { scope: "col" }, title));
  return make("div", { class: "scroll" }, make("table", {},
    make("caption", {}, "Columns of a row"), make("thead", {}, make("tr", {}, ...titles)), body));
}

/** A labelled input; `read` gives its value. */
function field(label, description, input, required) {
  const id = `field${fields += 1}`;
  input.id = id;
  if (required) input.setAttribute("aria-required", "true");
  const note = description ? make("p", { class: "note", id: `${id}note` }, description) : null;
  if (note) input.setAttribute("aria-describedby", note.id);
  return make("div", { class: "field" }, make("label", { for: id }, required ? `${label} (required)` : label), note, input);
}

const textInput = (value) => {
  const input = make("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  input.value = value ?? "";
  return input;
};

/** The inputs of a parameter, and what they add to a request. */
function parameterFields(parameter) {
  const { name, in: place, schema } = parameter;
  if (name === "key" && place === "query") {
    const parts = schema.prefixItems ?? [schema.items];
    const inputs = parts.map((_, at) => textInput(String(parameter.example?.[at] ?? "")));
    // An empty text is a value: what is left out is said by a box of its own.
    const sent = inputs.map(() => Object.assign(make("input", { type: "checkbox" }), { checked: true }));
    const rows = inputs.flatMap((input, at) => {
      const label = parts.length > 1 ? `key, part ${at + 1}` : "key";
      const row = field(label, at === 0 ? parameter.description : typeOf(parts[at]), input, at === 0);
      if (at === 0) return [row];
      const box = make("div", { class: "field" }, make("label", {}, sent[at], ` send part ${at + 1}`));
      return [box, row];
    });
    const add = (request) => {
      for (const [at, input] of inputs.entries()) {
        if (!sent[at].checked) break;
        request.query.push(`key=${encodeURIComponent(input.value)}`);
      }
    };
    return { rows, add };
  }
  let input = textInput(place === "path" ? String(parameter.example ?? "") : "");
  if (schema.type === "boolean") {
    input = make("select", {}, ...(place === "path" ? ["true", "false"] : ["", "true", "false"]).map((value) => make("option", {}, value)));
  }
  const hint = schema.items?.enum ? `${parameter.description} One of: ${schema.items.enum.join(", ")}` : parameter.description;
  const description = place === "path" ? [hint, typeOf(schema)].filter(Boolean).join(" · ") : hint;
  const add = (request) => {
    const value = input.value;
    if (place === "path") {
      // Browsers take such parts out of a path.
      if (["", ".", ".."].includes(value)) request.refused = `“${value}” cannot stand in a path: ask with key in the query.`;
      request.path = request.path.replace(`{${name}}`, () => encodeURIComponent(value));
    } else if (value === "") return;
    else if (place === "header") request.headers[name] = value;
    else if (name === "columns") request.query.push(`columns=${value.split(",").map((part) => encodeURIComponent(part.trim())).join(",")}`);
    else request.query.push(`${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  };
  return { rows: [field(name, description, input, place === "path")], add };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The same request for a shell. */
function curl(method, url, headers, body) {
  const words = ["curl"];
  for (const [name, value] of Object.entries(headers)) words.push("-H", quoted(`${name}: ${value}`));
  if (credential) words.push("-H", '"Authorization: Bearer $LAKEGATE_KEY"');
  if (method === "POST") words.push("-d", quoted(body));
  return [...words, quoted(new URL(url, document.baseURI).href)].join(" ");
}

/** The headers of a request with the credential, if there is one. */
const signed = (headers) => (credential ? { ...headers, Authorization: `Bearer ${credential}` } : headers);

/** Sends a request. `live` is read out when it changes, what is in `out` is not. */
async function send(method, request, body, live, out) {
  const url = request.path.slice(1) + (request.query.length ? `?${request.query.join("&")}` : "");
  const shown = [make("pre", { "aria-label": "The same with curl", tabindex: "0" }, curl(method, url, request.headers, body))];
  live.replaceChildren("Waiting for the answer…");
  out.replaceChildren(...shown);
  try {
    const began = performance.now();
    const sent = method === "POST" ? body : undefined;
    const answer = await fetch(url, { method, headers: signed(request.headers), body: sent, cache: "no-store" });
    const bytes = await answer.arrayBuffer();
    const took = Math.round(performance.now() - began);
    const kind = answer.status < 400 ? "good" : "bad";
    const status = make("span", { class: kind }, `${answer.status} ${answer.statusText}`);
    live.replaceChildren(status, ` in ${took} ms, ${bytes.byteLength} bytes`);
    const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`);
    shown.push(make("pre", { "aria-label": "Headers", tabindex: "0" }, headers.join("\n")));
    if ((answer.headers.get("content-type") ?? "").includes("arrow")) {
      shown.push(make("p", { class: "note" }, "The body is binary."));
    } else {
      const text = new TextDecoder().decode(bytes);
      const more = text.length - SHOWN_MAX;
      // As it came: a parsed number would lose digits.
      const cut = more > 0 ? `${text.slice(0, SHOWN_MAX)}\n… ${more} more characters` : text;
      shown.push(make("pre", { "aria-label": "Body", tabindex: "0" }, cut));
    }
    out.replaceChildren(...shown);
  } catch (error) {
    live.replaceChildren(make("span", { class: "bad" }, `No answer: ${error.message}`));
  }
}

function answersOf(operation) {
  const body = make("tbody");
  for (const [status, reference] of Object.entries(operation.responses)) {
    const response = resolve(reference);
    body.append(make("tr", {}, make("th", { scope: "row" }, status), make("td", {}, response.description)));
  }
  const titles = ["Status", "Means"].map((title) => make("th", { scope: "col" }, title));
  return make("div", { class: "scroll" }, make("table", {},
    make("caption", {}, "Answers"), make("thead", {}, make("tr", {}, ...titles)), body));
}

function operationOf(path, method, item, operation) {
  const form = make("form");
  const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolve).map(parameterFields);
  form.append(...parameters.flatMap((parameter) => parameter.rows));
  let body = null;
  if (operation.requestBody) {
    body = make("textarea", { spellcheck: "false" });
    body.value = JSON.stringify(operation.requestBody.content["application/json"].example);
    form.append(field("Body", "JSON", body, true));
  }
  const formats = Object.keys(resolve(operation.responses["200"]).content ?? {});
  const format = make("select", {}, ...formats.map((name) => make("option", {}, name)));
  if (formats.length > 1) form.append(field("Accept", "The format of the answer", format, false));
  form.append(make("button", { type: "submit" }, "Send"));
  const live = make("p", { role: "status" });
  const out = make("div");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const request = { path, query: [], headers: {} };
    if (formats.length > 1) request.headers.Accept = format.value;
    if (body) request.headers["Content-Type"] = "application/json";
    for (const parameter of parameters) parameter.add(request);
    if (request.refused) {
      live.replaceChildren(make("span", { class: "bad" }, request.refused));
      out.replaceChildren();
      return;
    }
    send(method.toUpperCase(), request, body?.value, live, out);
  });
  return make("details", {},
    make("summary", {}, make("span", { class: "method" }, method.toUpperCase()), make("code", {}, path), ` ${operation.summary}`),
    make("div", {}, operation.description ? make("p", {}, operation.description) : null, form, live, out, answersOf(operation)));
}

/** Shows one tag: a table, or the server. */
function show(tag) {
  const operations = [];
  for (const [path, item] of Object.entries(contract.paths)) {
    for (const method of ["get", "post"]) {
      if (item[method]?.tags.includes(tag)) operations.push(operationOf(path, method, item, item[method]));
    }
  }
  const about = contract.tags.find((known) => known.name === tag);
  const isTable = contract.components.schemas[tag] !== undefined;
  byId("main").replaceChildren(
    make("h2", {}, tag), make("p", {}, about.description), ...(isTable ? [columnsOf(tag)] : []),
    make("h3", {}, "Requests"), make("p", { class: "note" }, "GET can be asked as HEAD, which leaves the body out."), ...operations);
  if (operations.length > 0) operations[0].open = true;
  document.title = `${tag} · Lakegate read API`;
  for (const link of byId("tables").querySelectorAll("a")) {
    if (link.dataset.tag === tag) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function chosen() {
  const wanted = decodeURIComponent(location.hash.slice(1));
  return contract.tags.some((tag) => tag.name === wanted) ? wanted : contract.tags[0].name;
}

function list() {
  const wanted = byId("filter").value.trim().toLowerCase();
  for (const item of byId("tables").children) item.hidden = !item.textContent.toLowerCase().includes(wanted);
}

async function start() {
  try {
    const answer = await fetch("v1/openapi.json", { headers: signed({}) });
    byId("credential").hidden = answer.status !== 401;
    if (!answer.ok) throw new Error((await answer.json()).error?.[0]?.detail ?? `status ${answer.status}`);
    contract = await answer.json();
  } catch (error) {
    byId("about").textContent = `What is published cannot be read: ${error.message}`;
    return;
  }
  const tables = contract.tags.length - 1;
  byId("about").textContent = `Version ${contract.info.version}, ${tables} ${tables === 1 ? "table" : "tables"}. ${contract.info.description}`;
  for (const tag of contract.tags) {
    byId("tables").append(make("li", {}, make("a", { href: `#${encodeURIComponent(tag.name)}`, "data-tag": tag.name }, tag.name)));
  }
  byId("filter").addEventListener("input", list);
  addEventListener("hashchange", () => {
    if (location.hash === "#main") return;
    show(chosen());
    byId("main").focus();
  });
  show(chosen());
}

byId("credential").addEventListener("submit", (event) => {
  event.preventDefault();
  credential = byId("token").value.trim();
  start();
});

start();
