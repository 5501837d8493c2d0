import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { createHash } from "node:crypto"
import { readFileSync, rmSync, writeFileSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as HubModel from "../../src/model/HubModel.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import * as FakeHub from "../hub/FakeHub.ts"
import { temporaryFolder } from "./temporaryFolder.ts"

const tiny = path.join(import.meta.dirname, "../fixtures/tiny-llama")
const bytes = (name: string) => readFileSync(path.join(tiny, name))
const weights = { bytes: bytes("model.safetensors"), large: true }
const sha256 = createHash("sha256").update(weights.bytes).digest("hex")
const model = {
  "config.json": { bytes: bytes("config.json") },
  "generation_config.json": { bytes: bytes("generation_config.json") },
  "README.md": { bytes: Buffer.from("# not for Charter") },
  "model.safetensors": weights
}

/** A hub, a cache of its own, and the model located through them. */
const setting = Effect.fnUntraced(function* (
  files: Readonly<Record<string, FakeHub.Entry>> = model,
  behave?: FakeHub.Behaviour
) {
  const hub = yield* FakeHub.make(files, behave)
  const cacheDir = yield* temporaryFolder
  const options = { cacheDir, endpoint: hub.endpoint, token: undefined, offline: false }
  const locate = (more: HubModel.Options = {}, reference = "o/n") => HubModel.locate(reference, { ...options, ...more })
  return {
    ...hub,
    cacheDir,
    folder: path.join(cacheDir, "models--o--n"),
    locate,
    refusal: (more?: HubModel.Options, reference?: string) =>
      Effect.map(Effect.flip(locate(more, reference)), (error) => error.message),
    ranges: () => hub.asked.filter((line) => line.includes("model.safetensors bytes=") && !line.includes("bytes=0-0"))
  }
})

const list = (dir: string) =>
  Effect.promise(async () => (await fs.readdir(dir, { recursive: true })).map((name) => `${name}`).toSorted())

describe("HubModel.locate", () => {
  it.effect("takes a folder as it is", () =>
    Effect.gen(function* () {
      const dir = yield* Effect.promise(() => fs.realpath(tiny))
      expect(yield* HubModel.locate(path.relative(process.cwd(), tiny))).toEqual({ dir, hub: undefined })
      for (const reference of ["nowhere", "./o/n", "/o/n", "a/b/c", "o/../n", "o/n@", "o/n@../x", ""]) {
        expect((yield* Effect.flip(HubModel.locate(reference))).message).toContain("does not exist; give the folder")
      }
    })
  )

  it.effect("fetches the chat template for tools out of its folder", () =>
    Effect.gen(function* () {
      const { asked, folder, locate } = yield* setting({
        ...model,
        "additional_chat_templates/rag.jinja": { bytes: Buffer.from("not for Charter") },
        "additional_chat_templates/tool_use.jinja": { bytes: Buffer.from("{{ tools }}") },
        "onnx/model.onnx": { bytes: Buffer.from("not for Charter, either") }
      })
      const { dir } = yield* locate()
      const file = path.join(dir, "additional_chat_templates/tool_use.jinja")
      expect(readFileSync(file, "utf8")).toBe("{{ tools }}")
      expect(yield* list(path.join(folder, "blobs"))).toHaveLength(4)
      expect(asked.filter((line) => line.includes("/tree/"))).toHaveLength(2)
    })
  )

  it.effect("fetches a model once into the cache that Python knows", () =>
    Effect.gen(function* () {
      const { asked, cacheDir, folder, locate } = yield* setting()
      const progress: Array<HubModel.Progress> = []
      const located = yield* locate({ token: Redacted.make("hf_secret"), onProgress: (p) => progress.push(p) })
      expect(located).toEqual({
        dir: path.join(folder, "snapshots", FakeHub.commit),
        hub: { name: "o/n", revision: FakeHub.commit }
      })
      expect((yield* Checkpoint.open(located.dir)).tensors.size).toBe(20)
      expect(yield* list(path.join(folder, "snapshots", FakeHub.commit))).toEqual([
        "config.json",
        "generation_config.json",
        "model.safetensors"
      ])
      expect(yield* Effect.promise(() => fs.readlink(path.join(located.dir, "model.safetensors")))).toMatch(
        /^\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/
      )
      expect(yield* Effect.promise(() => fs.readFile(path.join(folder, "refs/main"), "utf8"))).toBe(FakeHub.commit)
      expect(asked.every((line) => line.endsWith("Bearer hf_secret"))).toBe(true)
      const last = progress.at(-1)!
      expect(last.done).toBe(last.total)
      expect(last.total).toBe(
        weights.bytes.length + bytes("config.json").length + bytes("generation_config.json").length
      )

      const count = asked.length
      expect(yield* locate()).toEqual(located)
      expect(asked.slice(count).map((line) => line.split(" ")[0])).toEqual([
        "/api/models/o/n/revision/main",
        `/api/models/o/n/tree/${FakeHub.commit}`
      ])
      // Offline, and by the name of the folder itself, nothing is asked.
      expect(yield* locate({ offline: true })).toEqual(located)
      expect(yield* locate({ offline: true }, `o/n@${FakeHub.commit}`)).toEqual(located)
      expect((yield* HubModel.locate(located.dir)).hub).toEqual(located.hub)
      expect(asked.length).toBe(count + 2)
      expect(yield* list(cacheDir)).not.toContain(expect.stringContaining("incomplete"))
    })
  )

  it.effect("writes nothing where the cache has all, as it may be one to read alone", () =>
    Effect.gen(function* () {
      const { cacheDir, folder, locate } = yield* setting()
      const located = yield* locate()
      const written = Effect.promise(async () => {
        const names = (await fs.readdir(cacheDir, { recursive: true })).toSorted()
        const stats = await Promise.all(names.map((name) => fs.lstat(path.join(cacheDir, name), { bigint: true })))
        return names.map((name, i) => [name, stats[i]!.ino, stats[i]!.mtimeNs])
      })
      const before = yield* written
      expect(yield* locate()).toEqual(located)
      expect(yield* written).toEqual(before)

      const ref = path.join(folder, "refs/main")
      yield* Effect.promise(() => fs.writeFile(ref, "d".repeat(40)))
      yield* locate()
      expect(yield* Effect.promise(() => fs.readFile(ref, "utf8"))).toBe(FakeHub.commit)
    })
  )

  it.effect("fetches the shards that an index names", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const { tensors } = yield* Checkpoint.open(tiny)
      const data = yield* Effect.forEach([...tensors.values()], (info) =>
        Effect.map(Safetensors.load(info), (data) => ({ name: info.name, shape: info.shape, data }))
      )
      yield* Safetensors.write(path.join(dir, "a"), data.slice(0, 9))
      yield* Safetensors.write(path.join(dir, "b"), data.slice(9))
      const index = (shards: readonly [string, string]) => ({
        bytes: Buffer.from(
          JSON.stringify({ weight_map: Object.fromEntries(data.map(({ name }, i) => [name, shards[i < 9 ? 0 : 1]])) })
        )
      })
      // Marks that mean something else in an address are a part of a name here.
      const names = ["model-#1-of-2.safetensors", "model-100%-of-2?.safetensors"] as const
      const shards = {
        "config.json": model["config.json"],
        [names[0]]: { bytes: readFileSync(path.join(dir, "a")), large: true },
        [names[1]]: { bytes: readFileSync(path.join(dir, "b")), large: true }
      }
      const { folder, locate } = yield* setting({ ...shards, "model.safetensors.index.json": index(names) })
      const located = yield* locate()
      expect((yield* Checkpoint.open(located.dir)).tensors.size).toBe(20)
      yield* Effect.promise(() => fs.rm(path.join(folder, "snapshots", FakeHub.commit, names[1])))
      expect((yield* Effect.flip(locate({ offline: true }))).message).toContain("is not in the cache")

      const lacking = yield* setting({ ...shards, "model.safetensors.index.json": index([names[0], "c.safetensors"]) })
      expect(yield* lacking.refusal()).toContain("lists the weight file c.safetensors, which it does not have")
      const outside = yield* setting({ ...shards, "model.safetensors.index.json": index([names[0], "../../x"]) })
      expect(yield* outside.refusal()).toContain(`names the weight file "../../x", which is not in its folder`)
    })
  )
})

describe("A download", () => {
  it.effect("goes on where the connection broke", () =>
    Effect.gen(function* () {
      const { locate, ranges } = yield* setting(model, ({ path, times }) =>
        path === "model.safetensors" && times < 3 ? { cut: 100_000 } : undefined
      )
      const located = yield* locate()
      expect((yield* Checkpoint.open(located.dir)).tensors.size).toBe(20)
      const end = weights.bytes.length - 1
      expect(ranges().map((line) => line.split(" ")[1])).toEqual([`bytes=100000-${end}`, `bytes=200000-${end}`])
    })
  )

  it.effect("ends where the hub breaks off again and again and begins anew each time", () =>
    Effect.gen(function* () {
      const { ranges, refusal } = yield* setting(model, ({ path }) =>
        path === "model.safetensors" ? { cut: 200_000, of: "whole" } : undefined
      )
      expect(yield* refusal()).toMatch(/^o\/n\/model\.safetensors cannot be fetched: /)
      expect(ranges().length).toBeLessThan(8)
    })
  )

  it.effect("goes on where an earlier start ended, and starts anew when that was damaged", () =>
    Effect.gen(function* () {
      let broken = true
      const { folder, locate, ranges, refusal } = yield* setting(model, ({ from, path }) =>
        broken && path === "model.safetensors" ? { cut: from === 0 ? 1000 : 0 } : undefined
      )
      expect(yield* refusal()).toMatch(/^o\/n\/model\.safetensors cannot be fetched: .*; try again\.$/)
      broken = false
      const incomplete = (yield* list(path.join(folder, "blobs"))).find((name) => name.endsWith(".incomplete"))!
      expect((yield* Effect.promise(() => fs.stat(path.join(folder, "blobs", incomplete)))).size).toBe(1000)
      const before = ranges().length
      yield* locate()
      expect(
        ranges()
          .slice(before)
          .map((line) => line.split(" ")[1])
      ).toEqual([`bytes=1000-${weights.bytes.length - 1}`])

      yield* Effect.promise(async () => {
        await fs.rm(path.join(folder, "snapshots"), { recursive: true })
        await fs.rm(path.join(folder, "blobs", incomplete.replace(".incomplete", "")))
        await fs.writeFile(path.join(folder, "blobs", incomplete), Buffer.alloc(5000, 7))
      })
      expect((yield* Checkpoint.open((yield* locate()).dir)).tensors.size).toBe(20)
    })
  )

  it.effect("may be finished by another process meanwhile", () =>
    Effect.gen(function* () {
      const at = { blob: "" }
      const { cacheDir, folder, locate } = yield* setting(model, ({ path }) => {
        if (path !== "model.safetensors") return undefined
        writeFileSync(at.blob, weights.bytes)
        rmSync(`${at.blob}.incomplete`)
        return undefined
      })
      at.blob = path.join(folder, "blobs", sha256)
      const located = yield* locate()
      expect((yield* Checkpoint.open(located.dir)).tensors.size).toBe(20)
      expect((yield* list(cacheDir)).filter((name) => /incomplete|tmp/.test(name))).toEqual([])
    })
  )

  it.effect("starts anew when the hub does not give the rest alone", () =>
    Effect.gen(function* () {
      const { locate } = yield* setting(model, ({ path, times }) =>
        path !== "model.safetensors" || times > 2 ? undefined : times === 1 ? { cut: 5000 } : { instead: weights.bytes }
      )
      expect((yield* Checkpoint.open((yield* locate()).dir)).tensors.size).toBe(20)
    })
  )

  it.effect("is refused when its bytes are others than the hub's hash", () =>
    Effect.gen(function* () {
      const damaged = Buffer.from(weights.bytes)
      damaged[damaged.length - 1]! ^= 1
      const { folder, refusal } = yield* setting(model, ({ path }) =>
        path === "model.safetensors" ? { instead: damaged } : undefined
      )
      expect(yield* refusal()).toContain("o/n/model.safetensors comes with other bytes than the hub's own hash of it")
      expect((yield* list(path.join(folder, "blobs"))).length).toBe(2)
      expect(yield* list(folder)).not.toContain("refs/main")

      const small = yield* setting({ ...model, "config.json": { ...model["config.json"], hash: "a".repeat(40) } })
      expect(yield* small.refusal()).toContain("o/n/config.json comes with other bytes")
      const escaping = yield* setting({ ...model, "config.json": { ...model["config.json"], hash: "../../x" } })
      expect(yield* escaping.refusal()).toContain("has a file config.json without a hash and a size")
    })
  )

  it.effect("that the disk does not take is to go to another folder", () =>
    Effect.gen(function* () {
      const { refusal } = yield* setting()
      const said = yield* refusal({ cacheDir: path.join(tiny, "config.json") })
      expect(said).toContain("o/n/config.json cannot be kept in the cache: ENOTDIR")
      expect(said).toContain("; set HF_HOME to a folder of yours with room for it.")
    })
  )

  it.effect("waits when the hub asks for patience, but not for ever", () =>
    Effect.gen(function* () {
      const headers = { "retry-after": "0" }
      const busy = yield* setting(model, ({ times }) => (times < 3 ? { status: 429, headers } : undefined))
      expect((yield* Checkpoint.open((yield* busy.locate()).dir)).tensors.size).toBe(20)
      const closed = yield* setting(model, () => ({ status: 429, headers }))
      expect(yield* closed.refusal()).toContain("because the hub has been asked too often (429); try again")
    })
  )
})

describe("A token", () => {
  it.effect("is shown to the hub alone, and never printed", () =>
    Effect.gen(function* () {
      const storage = yield* FakeHub.make(model)
      const { asked, locate, refusal } = yield* setting({
        ...model,
        "model.safetensors": { ...weights, at: storage.endpoint }
      })
      // A mirror's tokens need not look like those of huggingface.co.
      yield* locate({ token: Redacted.make("secret") })
      expect(asked.every((line) => line.endsWith("Bearer secret"))).toBe(true)
      expect(storage.asked.length).toBe(2)
      expect(storage.asked.every((line) => line.endsWith(" -"))).toBe(true)

      const said = yield* refusal({ token: Redacted.make("hf_secret\nx") })
      expect(said).toBe(
        "HF_TOKEN has characters that are in no token; set it to the token alone, or unset it and log in anew."
      )
    })
  )
})

describe("What the hub does not give", () => {
  it.effect("may need an agreement, which is said to those without a token, too", () =>
    Effect.gen(function* () {
      const headers = { "x-error-code": "GatedRepo" }
      const { refusal } = yield* setting(model, () => ({ status: 401, headers }))
      expect(yield* refusal()).toContain("o/n/config.json may not be read; accept its terms on its page of the hub")
    })
  )

  it.effect("is not asked of what is no address", () =>
    Effect.gen(function* () {
      const { refusal } = yield* setting()
      for (const endpoint of ["localhost:8080", "huggingface.co", "ftp://x"]) {
        expect(yield* refusal({ endpoint })).toContain("HF_ENDPOINT is not the address of a hub")
      }
    })
  )

  it.effect("is said in a sentence", () =>
    Effect.gen(function* () {
      const { answer, refusal } = yield* setting()
      for (const [status, said] of [
        [401, "o/n is not on the hub, or is private; check its name, or set HF_TOKEN"],
        [403, "o/n may not be read; accept its terms"],
        [404, "o/n is not on the hub; check its name and revision"],
        [418, "o/n is not given: the hub answers with 418"]
      ] as const) {
        answer(status)
        expect(yield* refusal()).toContain(said)
      }
      answer(200)
      expect(yield* refusal({}, "o/n@v2")).toContain("o/n@v2 is not on the hub")
      expect(yield* refusal({ offline: true })).toContain("and HF_HUB_OFFLINE forbids to ask the hub")
      expect(yield* (yield* setting({ "README.md": model["README.md"] })).refusal()).toContain("has no config.json")
      const { "model.safetensors": _, ...bare } = model
      expect(yield* (yield* setting(bare)).refusal()).toContain("has no weights as safetensors")
    })
  )

  it.effect("is no network that Charter computes: known before the weights are fetched", () =>
    Effect.gen(function* () {
      const other = { bytes: Buffer.from('{"model_type":"gpt2"}') }
      const { asked, refusal } = yield* setting({ ...model, "config.json": other })
      expect(yield* refusal()).toContain("config.json has the model_type gpt2")
      expect(asked.some((line) => line.includes("model.safetensors"))).toBe(false)
    })
  )

  it.effect("may be in the cache when the hub is out of order", () =>
    Effect.gen(function* () {
      const { answer, cacheDir, locate, refusal } = yield* setting()
      const located = yield* locate()
      answer(503)
      expect(yield* locate()).toEqual(located)
      expect(yield* refusal({ cacheDir: path.join(cacheDir, "none") })).toContain("the hub answers with 503")
      answer(404)
      expect(yield* refusal()).toContain("is not on the hub")
    })
  )

  it.effect("may be in the cache when the hub is not reached", () =>
    Effect.gen(function* () {
      const gone = yield* setting()
      const located = yield* gone.locate()
      yield* Effect.promise(() => {
        gone.server.closeAllConnections()
        return new Promise((done) => gone.server.close(done))
      })
      expect(yield* gone.locate()).toEqual(located)
      expect(yield* gone.refusal({ cacheDir: path.join(gone.cacheDir, "none") })).toContain(
        "o/n cannot be fetched because the hub is not reached (ECONNREFUSED); go online"
      )
    })
  )
})
