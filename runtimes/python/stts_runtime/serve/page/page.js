// The page: a clip and a question go to the server as any client would send them; what comes back is drawn here.

const at = id => document.getElementById(id);
const RECORDED_SECONDS = 4;
const MOST_DATA_BYTES = 40 << 20;  // larger clips are sent ahead, by /v1/files

let model = "";
let usual = 0.5;
let clip = null;      // {part, name}, as messages have it
let pictures = null;  // frames of this clip, as the server showed them
let seen = null;      // what was kept of them at the last answer
let running = null;   // the request under way

const headers = () => at("key").value ? {Authorization: `Bearer ${at("key").value.trim()}`} : {};

async function connect() {
  let answer;
  try {
    answer = await fetch("v1/models", {headers: headers()});
  } catch {
    at("model").textContent = "The server does not answer.";
    return;
  }
  if (answer.status === 401) {
    at("key-row").hidden = false;
    at("model").textContent = "This server wants a key.";
    return;
  }
  const [told] = (await answer.json()).data;
  model = told.id;
  usual = told.stts.prune;
  at("model").textContent = `${model} · ${told.stts.scorer} scorer`;
  if (at("prune").dataset.moved !== "yes") setShare(Math.round(100 * usual));
  at("prune").disabled = told.stts.scorer === "none";
}

function setShare(percent) {
  at("prune").value = percent;
  at("share").textContent = `${percent} %`;
}

function tell(error) {
  at("error").textContent = error ?? "";
  at("error").hidden = !error;
}

async function refusal(answer) {
  if (answer.status === 401) at("key-row").hidden = false;
  try {
    const {error} = await answer.json();
    return answer.status === 429 ? `${error.message} (in ${answer.headers.get("Retry-After")} s)` : error.message;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

// Clips

const dataUrl = blob => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => failed(reader.error);
  reader.readAsDataURL(blob);
});

async function uploaded(blob, name) {
  const form = new FormData();
  form.append("purpose", "user_data");
  form.append("file", blob, name);
  const answer = await fetch("v1/files", {method: "POST", headers: headers(), body: form});
  if (!answer.ok) throw new Error(await refusal(answer));
  return {type: "file", file: {file_id: (await answer.json()).id}};
}

function forget(old) {  // room for uploads is bounded
  const id = old?.part.file?.file_id;
  if (id) fetch(`v1/files/${id}`, {method: "DELETE", headers: headers(), keepalive: true}).catch(() => {});
}

async function take(blob, name) {
  tell();
  stopCamera();
  if (running) running.abort();
  forget(clip);
  clip = null;
  at("clip-name").textContent = `Reading ${name} …`;
  try {
    const part = blob.size > MOST_DATA_BYTES
      ? await uploaded(blob, name)
      : {type: "video_url", video_url: {url: `data:video/mp4;base64,${(await dataUrl(blob)).split(",")[1]}`}};
    clip = {part, name};
  } catch (error) {
    at("clip-name").textContent = "";
    tell(error.message);
    return;
  }
  pictures = seen = null;
  at("seen").hidden = at("cost").hidden = true;
  at("runs").replaceChildren();
  at("answer").textContent = "";
  at("notes").replaceChildren();
  const preview = at("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.srcObject = null;
  preview.src = URL.createObjectURL(blob);
  preview.controls = true;
  preview.hidden = false;
  at("hint").hidden = true;
  at("clip-name").textContent = `${name}, ${(blob.size / 1e6).toFixed(blob.size < 1e6 ? 2 : 1)} MB`;
  at("question").focus();
}

at("preview").addEventListener("error", () => {  // the server may read what this browser cannot
  if (at("preview").getAttribute("src")) at("preview").hidden = true;
});
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  if (file) take(file, file.name);
});
const drop = at("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, event => { event.preventDefault(); drop.classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", event => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) take(file, file.name);
});

// The camera

let camera = null;  // {stream, recorder}

function stopCamera() {
  if (!camera) return;
  for (const track of camera.stream.getTracks()) track.stop();
  if (camera.recorder?.state === "recording") camera.recorder.stop();
  camera = null;
  at("camera").textContent = "Use the camera";
  at("camera").disabled = false;
}

async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Error("The browser gives the camera only to pages of this machine, or by https: start the server with --tls-cert.");
  }
  const stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment", width: {ideal: 640}}});
  camera = {stream, recorder: null};
  const preview = at("preview");
  preview.removeAttribute("src");
  preview.srcObject = stream;
  preview.controls = false;
  preview.hidden = false;
  at("hint").hidden = true;
  await preview.play();
  at("camera").textContent = `Record ${RECORDED_SECONDS} seconds`;
}

async function record() {
  const kind = ["video/webm;codecs=vp8", "video/webm", "video/mp4"].find(one => MediaRecorder.isTypeSupported(one));
  const pieces = [];
  const recorder = new MediaRecorder(camera.stream, kind ? {mimeType: kind} : {});
  camera.recorder = recorder;
  recorder.ondataavailable = event => pieces.push(event.data);
  const stopped = new Promise(done => { recorder.onstop = done; });
  recorder.start();
  at("camera").disabled = true;
  for (let left = RECORDED_SECONDS; left > 0 && camera; left--) {
    at("camera").textContent = `Recording, ${left} s`;
    await new Promise(done => setTimeout(done, 1000));
  }
  if (recorder.state === "recording") recorder.stop();
  await stopped;
  await take(new Blob(pieces, {type: recorder.mimeType}), "camera");
}

at("camera").addEventListener("click", async () => {
  tell();
  try {
    await (camera ? record() : openCamera());
  } catch (error) {
    stopCamera();
    tell(error.name === "NotAllowedError" ? "The browser was not allowed to use the camera." : error.message);
  }
});

// Asking

async function* events(answer) {
  let held = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) if (part.startsWith("data: {")) yield JSON.parse(part.slice(6));
  }
}

async function ask() {
  if (!clip) {
    tell("Choose a clip first.");
    return;
  }
  if (running) running.abort();
  const mine = running = new AbortController();
  const asked = clip, prune = Number(at("prune").value) / 100, started = performance.now();
  tell();
  at("answer").textContent = "";
  at("answer").classList.add("running");
  at("notes").replaceChildren();
  const body = {
    model, prune, stream: true, stream_options: {include_usage: true}, explain: pictures ? true : "pictures",
    messages: [{role: "user", content: [asked.part, {type: "text", text: at("question").value}]}],
  };
  const told = {usage: null, extra: null};
  try {
    if (!model) await connect();
    body.model = model;
    const answer = await fetch("v1/chat/completions", {
      method: "POST", signal: mine.signal, body: JSON.stringify(body),
      headers: {...headers(), "Content-Type": "application/json"},
    });
    if (!answer.ok) throw new Error(await refusal(answer));
    for await (const event of events(answer)) {
      if (event.error) throw new Error(event.error.message);
      if (event.stts?.kept) {
        pictures = event.stts.pictures ?? pictures;
        seen = event.stts;
        await draw();
      }
      if (event.stts?.milliseconds) told.extra = event.stts;
      told.usage = event.usage ?? told.usage;
      const text = event.choices?.[0]?.delta.content;
      if (text) at("answer").append(text);
    }
    if (told.usage) row(prune, told, at("answer").textContent, performance.now() - started);
    for (const note of told.extra?.notes ?? []) at("notes").append(element("li", note));
  } catch (error) {
    if (error.name !== "AbortError") tell(error.message);
  } finally {
    if (running === mine) {
      running = null;
      at("answer").classList.remove("running");
    }
  }
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function row(prune, told, text, whole) {
  const sum = names => names.reduce((all, name) => all + (told.extra.milliseconds[name] ?? 0), 0);
  const time = milliseconds => milliseconds >= 1000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${Math.round(milliseconds)} ms`;
  const looking = sum(["preprocessing", "vision_score", "plan", "vision_encode", "vision_dense"]);
  const tokens = told.usage.prompt_tokens_details;
  const cells = [
    `${Math.round(100 * prune)} %`, `${tokens.vision_tokens} of ${tokens.vision_tokens_before_pruning}`,
    String(told.usage.prompt_tokens), looking ? time(looking) : "known", time(sum(["prefill"])), time(sum(["decode"])), text,
  ];
  const made = document.createElement("tr");
  made.append(...cells.map(cell => element("td", cell)));
  made.title = `${time(whole)} in all, as seen from here`;
  at("runs").prepend(made);
  while (at("runs").children.length > 12) at("runs").lastChild.remove();
  at("cost").hidden = false;
}

// What was kept

const image = url => new Promise((done, failed) => {
  const made = new Image();
  made.onload = () => done(made);
  made.onerror = () => failed(new Error("A frame cannot be shown."));
  made.src = url;
});

async function draw() {
  if (!seen || !pictures) return;
  const images = await Promise.all(pictures.map(image));
  const groups = seen.kept[0].length, side = Math.round(Math.sqrt(groups));
  const flat = seen.scores?.flat() ?? [], low = Math.min(...flat), high = Math.max(...flat);
  const withScores = at("with-scores").checked && seen.scores;
  at("with-scores").disabled = !seen.scores;
  const figures = images.map((picture, frame) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side * Math.max(8, Math.ceil(224 / side));
    const unit = canvas.width / side, pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = picture.width >= canvas.width;
    pen.drawImage(picture, 0, 0, canvas.width, canvas.width);
    seen.kept[frame].forEach((kept, group) => {
      const box = [unit * (group % side), unit * Math.floor(group / side), unit, unit];
      if (!kept) {
        pen.fillStyle = "rgb(28 32 36 / 0.78)";
        pen.fillRect(...box);
      }
      if (withScores) {
        const share = high > low ? (seen.scores[frame][group] - low) / (high - low) : 0;
        pen.fillStyle = `rgb(224 161 27 / ${(0.75 * share).toFixed(3)})`;
        pen.fillRect(...box);
      }
    });
    const count = seen.kept[frame].reduce((all, one) => all + one, 0);
    const figure = document.createElement("figure");
    figure.setAttribute("role", "listitem");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Frame at ${seen.timestamps[frame].toFixed(1)} seconds: ${count} of ${groups} groups kept`);
    figure.append(canvas, element("figcaption", `${seen.timestamps[frame].toFixed(1)} s · ${count} / ${groups}`));
    return figure;
  });
  const kept = seen.kept.flat().reduce((all, one) => all + one, 0);
  at("summary").textContent = `${kept} of ${groups * images.length} groups in ${images.length} frames were kept.`;
  at("frames").replaceChildren(...figures);
  at("seen").hidden = false;
}

at("form").addEventListener("submit", event => { event.preventDefault(); ask(); });
at("prune").addEventListener("input", () => { at("prune").dataset.moved = "yes"; setShare(at("prune").value); });
at("prune").addEventListener("change", () => { if (clip && at("question").value.trim()) ask(); });
at("with-scores").addEventListener("change", draw);
at("key").addEventListener("change", connect);
addEventListener("pagehide", event => { if (!event.persisted) forget(clip); });
connect();
