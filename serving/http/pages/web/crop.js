// The part of a picture that the network sees, by the rules of offramp/bundle/preprocess.py. The
// browser decodes and scales, so that single pixels can differ from the server's.

import { drawing, element } from "./dom.js";

const VIEW = 240; // CSS pixels of the longer side

/** Return the box to resize, in pixels of the upright picture. */
export function boxOf(width, height, input) {
  if (width === input.width && height === input.height) return [0, 0, width, height];
  const margin = input.margin ?? 1;
  let [across, down] = [margin * width, margin * height];
  if (input.fit === "crop") {
    const scale = margin * Math.min(width / input.width, height / input.height);
    [across, down] = [scale * input.width, scale * input.height];
  }
  return [(width - across) / 2, (height - down) / 2, across, down];
}

/** Fill the box of a thumbnail with what the network sees. */
export async function fillThumbnail(box, input, file) {
  const bitmap = await decode(file);
  box.replaceChildren(bitmap ? seenBy(input, bitmap, file.name) : "no preview");
  bitmap?.close();
}

/** Return the contents of two figures: a picture with its frame, and what the network sees. */
export async function viewsOf(input, file) {
  const bitmap = await decode(file);
  if (!bitmap) return [[caption("This browser cannot show the picture.")], []];
  const views = [
    [
      original(input, bitmap, `The picture ${file.name}, with the part that is used`),
      caption(`${bitmap.width} × ${bitmap.height}, the used part is framed`),
    ],
    [
      seenBy(input, bitmap, "The pixels that the network sees"),
      caption(`what the network sees: ${input.width} × ${input.height}`),
    ],
  ];
  bitmap.close();
  return views;
}

function caption(text) {
  return element("figcaption", {}, text);
}

// Null: the browser cannot read the file, and the server perhaps can.
async function decode(file) {
  return createImageBitmap(file).catch(() => null);
}

function seenBy(input, bitmap, label) {
  const canvas = blank(input.width, input.height, label);
  draw(canvas, bitmap, boxOf(bitmap.width, bitmap.height, input));
  return canvas;
}

function original(input, bitmap, label) {
  const scale = Math.min(2, (2 * VIEW) / Math.max(bitmap.width, bitmap.height));
  const canvas = blank(
    Math.max(1, Math.round(bitmap.width * scale)),
    Math.max(1, Math.round(bitmap.height * scale)),
    label,
  );
  draw(canvas, bitmap, [0, 0, bitmap.width, bitmap.height]);
  const [x, y, width, height] = boxOf(bitmap.width, bitmap.height, input);
  const frame = drawing(
    "svg",
    { viewBox: `0 0 ${bitmap.width} ${bitmap.height}`, "aria-hidden": "true" },
    drawing("rect", { class: "frame-edge", x, y, width, height }),
    drawing("rect", { class: "frame", x, y, width, height }),
  );
  return element("div", { class: "framed" }, canvas, frame);
}

function blank(width, height, label) {
  const small = Math.max(width, height) <= 64;
  return element("canvas", {
    width,
    height,
    role: "img",
    "aria-label": label,
    class: small ? "pixels" : "",
  });
}

function draw(canvas, bitmap, [x, y, width, height]) {
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // under transparent pixels, as the server does
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, x, y, width, height, 0, 0, canvas.width, canvas.height);
}
