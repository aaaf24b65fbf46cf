// What the pages share: their elements, and requests to the server.
"use strict";

const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** A request with the token, if one was given; what was refused is an error that says why. */
async function ask(path, options = {}) {
  const token = $("token").value;
  const headers = { ...options.headers };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers }).catch(() => {
    throw new Error("the server cannot be reached; is it running?");
  });
  if (answer.status === 401) $("token-field").hidden = false;
  if (!answer.ok) {
    const refusal = await answer.json().catch(() => ({}));
    throw new Error(refusal.error || `the server answered ${answer.status}`);
  }
  return answer;
}
