/**
 * Mutation: broken files, made from whole ones by a seed.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import * as Random from "../../src/Random.ts"

/** Values that have broken readers before. */
const strange: ReadonlyArray<unknown> = [
  null,
  true,
  false,
  0,
  -1,
  1,
  0.5,
  1e21,
  2 ** 31,
  2 ** 53,
  -(2 ** 63),
  "",
  "x",
  "\u0000\n\u202e",
  "../../etc/passwd",
  "__proto__",
  "(",
  "(a+)+$",
  "{% for i in x %}",
  "{{ 1 / 0 }}",
  "€".repeat(300),
  [],
  {},
  [null],
  [[]],
  { type: "Sequence" },
  { type: "BPE", vocab: {}, merges: [] },
  { Regex: "[" },
  Array.from({ length: 50 }, (_, i) => i)
]

/** Every place in a parsed JSON file: what holds it, and its key there. */
const places = (value: unknown, out: Array<readonly [holder: Record<string, unknown>, key: string]> = []) => {
  if (typeof value === "object" && value !== null) {
    for (const key of Object.keys(value)) {
      out.push([value as Record<string, unknown>, key])
      places((value as Record<string, unknown>)[key], out)
    }
  }
  return out
}

const set = (holder: Record<string, unknown>, key: string, value: unknown) =>
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true })

/** A JSON file with up to three of its values removed, replaced, moved, wrapped or bent. */
const mutateJson = (random: Random.Random, bytes: Buffer): Buffer => {
  const json: unknown = JSON.parse(bytes.toString("utf8"))
  for (let n = 1 + random.int(3); n > 0; n--) {
    const all = places(json)
    if (all.length === 0) break
    const [holder, key] = random.pick(all)
    const value = holder[key]
    const kind = random.int(6)
    if (kind === 0) delete holder[key]
    else if (kind === 1) set(holder, key, structuredClone(random.pick(strange)))
    else if (kind === 2) set(holder, key, structuredClone(random.pick(all)[0]))
    else if (kind === 3) set(holder, key, [structuredClone(value)])
    else if (kind === 4 && typeof value === "number")
      set(holder, key, random.pick([-value, value + 1, value * 1e6, value / 3]))
    else if (kind === 4 && typeof value === "string") set(holder, key, value.slice(0, random.int(value.length + 1)))
    else set(holder, `${key}${random.pick(["", "x", "s"])}`, structuredClone(value))
  }
  return Buffer.from(JSON.stringify(json))
}

/** Bytes changed, cut, repeated or added. */
const mutateBytes = (random: Random.Random, bytes: Buffer, end = bytes.length): Buffer => {
  const kind = random.int(6)
  const at = random.int(end)
  if (kind === 0) return bytes.subarray(0, random.int(bytes.length + 1))
  if (kind === 1) return Buffer.concat([bytes, Buffer.alloc(1 + random.int(64), random.int(256))])
  if (kind === 2) {
    const length = 1 + random.int(40)
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + length))])
  }
  if (kind === 3) {
    const length = 1 + random.int(40)
    return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)])
  }
  const changed = Buffer.from(bytes)
  for (let n = 1 + random.int(4); n > 0; n--) changed[random.int(end)] = random.int(256)
  return changed
}

/** A safetensors file with a bent header that keeps its length prefix right, or with wrong bytes anywhere. */
const mutateSafetensors = (random: Random.Random, bytes: Buffer): Buffer => {
  const length = Number(bytes.readBigUInt64LE(0))
  const kind = random.int(4)
  if (kind === 0) return mutateBytes(random, bytes)
  if (kind === 1) return mutateBytes(random, bytes, 8 + length)
  if (kind === 2) {
    const changed = Buffer.from(bytes)
    changed.writeBigUInt64LE(
      random.pick([0n, 1n, BigInt(length - 1), BigInt(length + 1), 100_000_001n, 2n ** 63n, 2n ** 64n - 1n])
    )
    return changed
  }
  const header = mutateJson(random, bytes.subarray(8, 8 + length))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([prefix, header, bytes.subarray(8 + length)])
}

/** A broken version of a file, a function of the seed and the case. */
export const mutate = (name: string, bytes: Buffer, seed: number, index: number): Buffer => {
  const random = Random.make(seed, "mutation", index)
  if (name.endsWith(".safetensors")) return mutateSafetensors(random, bytes)
  if (name.endsWith(".jinja")) return mutateBytes(random, bytes)
  return random.chance(0.75) ? mutateJson(random, bytes) : mutateBytes(random, bytes)
}

/** The files of a folder by name. */
export const files = (dir: string): ReadonlyMap<string, Buffer> =>
  new Map(fs.readdirSync(dir).map((name) => [name, fs.readFileSync(path.join(dir, name))]))
