/* The address says what is shown: "#PLACE?data=...&q=...&sort=...". A place is a table ("overall.mini.resnet18", a
   protocol's "mini_voc_seg_fcn.resnet18", "published"), all tables of a track ("backbones/mini"), a page
   ("submission/...", "protocol/...") or "compare". */
const FILTERS = ["data", "budget", "license", "values"];
const SINGLE = [...FILTERS, "q", "sort"];
const SEVERAL = ["protocols", "rows"];

const readAddress = (hash = location.hash) => {
  const [place, query] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const state = { place: decoded(place) };
  const given = new URLSearchParams(query ?? "");
  for (const name of SINGLE) state[name] = given.get(name) ?? "";
  for (const name of SEVERAL) state[name] = given.getAll(name);
  return state;
};
/* One that is no text ("#%") names nothing. */
const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
};
const address = (state) => {
  const given = new URLSearchParams();
  for (const name of SINGLE) if (state[name]) given.set(name, state[name]);
  for (const name of SEVERAL) for (const value of state[name] ?? []) given.append(name, value);
  const place = state.place.split("/").map(encodeURIComponent).join("/");
  const query = String(given);
  return `#${place}${query && `?${query}`}`;
};
/* Addresses of pages do not carry the filters of the table from which they are reached. */
const pageOf = (kind, id) => address({ place: `${kind}/${id}` });
