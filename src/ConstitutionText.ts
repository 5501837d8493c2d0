/**
 * The text of a constitution's file, unpacked; what is no text is named, as principles would be made of it otherwise.
 *
 * @internal
 */
import { isUtf8 } from "node:buffer"
import * as Zlib from "node:zlib"
import type { Bad } from "./ConstitutionFormat.ts"
import * as Bytes from "./data/Bytes.ts"
import * as Records from "./data/Records.ts"
import * as ZstdFrames from "./data/ZstdFrames.ts"

/** No constitution has more, and a small packed file may have any length. */
const maxOutputLength = 64 * 2 ** 20

/** Node's own takes the first of several frames for all of them. */
const unpackZstd = (bytes: Uint8Array, { maxOutputLength }: { readonly maxOutputLength: number }): Uint8Array => {
  let left = maxOutputLength
  const frames = ZstdFrames.cutter()(bytes).map((frame) => {
    const text = Zlib.zstdDecompressSync(frame, { maxOutputLength: left })
    left -= text.length
    return text
  })
  return Buffer.concat(frames)
}

const unpackers = { gzip: Zlib.gunzipSync, zstd: unpackZstd }

const unpacked = (bytes: Uint8Array): Uint8Array | undefined => {
  const packed = Bytes.packing(bytes)
  try {
    return packed === "none" ? bytes : unpackers[packed](bytes, { maxOutputLength })
  } catch {
    return undefined
  }
}

const lineAt = (bytes: Uint8Array, position: number): number =>
  bytes.subarray(0, position).reduce((line, byte) => (byte === 0x0a ? line + 1 : line), 1)

/** The line of the first bytes that are no UTF-8. No character has the byte of a line's end in it. */
const badLine = (bytes: Uint8Array): number => {
  let [line, start] = [1, 0]
  for (let end; (end = bytes.indexOf(0x0a, start)) >= 0; start = end + 1, line++) {
    if (!isUtf8(bytes.subarray(start, end))) break
  }
  return line
}

/** The text that the bytes of a file are, or what is wrong with them. */
export const decode = (packed: Uint8Array): string | Bad => {
  const bad = (fact: string, line?: number): Bad => ({ _tag: "Bad", fact, line })
  const bytes = unpacked(packed)
  if (bytes === undefined) return bad("is damaged: it cannot be unpacked to its end; fetch it again")
  if (Records.isUtf16(bytes)) return bad("is UTF-16 text; save it as UTF-8")
  const nul = bytes.indexOf(0)
  if (nul >= 0) return bad("has a NUL byte, which text does not have; save it as text in UTF-8", lineAt(bytes, nul))
  if (!isUtf8(bytes)) return bad("has bytes that are no UTF-8; save it as UTF-8", badLine(bytes))
  return new TextDecoder().decode(bytes)
}
