import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Redacted, Result, Stream } from "effect"
import { createHash, randomUUID } from "node:crypto"
import { createServer } from "node:http"
import { text } from "node:stream/consumers"
import * as Bytes from "../../src/data/Bytes.ts"
import * as Hub from "../../src/data/Hub.ts"

const commit = "a".repeat(40)
const content = '{"prompt":"a"}\nbad\n{"prompt":"b"}\n'

/** The bytes of each file, by its path; of one the hub gives other bytes, and another breaks off at first. */
const files: Readonly<Record<string, string>> = {
  "data/p.jsonl": content,
  "data/100% #?.jsonl": content,
  "data/other.jsonl": content.toUpperCase(),
  "data/torn.jsonl": content
}

/** The hash that git has of the bytes. */
const oid = createHash("sha1").update(`blob ${content.length}\0${content}`).digest("hex")

/** A hub with one data set, which notes what it is asked. */
const hub = Effect.acquireRelease(
  Effect.promise(async () => {
    const asked: Array<string> = []
    const server = createServer((request, response) => {
      const url = request.url ?? ""
      const path = decodeURIComponent(url.replace(`/datasets/o/n/resolve/${commit}/`, ""))
      asked.push(`${request.method} ${url.split("?")[0]} ${request.headers.authorization ?? "-"}`)
      const json = (status: number, body: unknown, headers = {}) =>
        response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body))
      if (url.startsWith("/api/datasets/o/n/revision/v1?")) json(200, { _id: "1", id: "o/n", sha: commit })
      else if (url.startsWith(`/api/datasets/o/n/tree/${commit}`)) {
        json(200, [
          { type: "directory", path: "data", size: 0 },
          { type: "file", path: "data/p.jsonl", size: content.length }
        ])
      } else if (url === `/api/datasets/o/n/paths-info/${commit}`) {
        void text(request).then((body) =>
          json(
            200,
            (JSON.parse(body) as { paths: ReadonlyArray<string> }).paths
              .filter((path) => path in files)
              .map((path) => ({ type: "file", path, size: content.length, oid }))
          )
        )
      } else if (path in files) {
        const [from, to] = /^bytes=(\d+)-(\d+)$/
          .exec(request.headers.range ?? "")
          ?.slice(1)
          .map(Number) ?? [0, 1e9]
        const body = files[path]!.slice(from, to! + 1)
        const range =
          request.headers.range === undefined ? {} : { "content-range": `bytes ${from}-${to}/${content.length}` }
        response.writeHead("content-range" in range ? 206 : 200, {
          etag: '"e"',
          "content-length": body.length,
          ...range
        })
        if (path !== "data/torn.jsonl" || from !== 0 || body.length === 1) response.end(body)
        else response.write(body.slice(0, 15), () => setImmediate(() => response.destroy()))
      } else json(404, { error: "not there" }, { "x-error-code": "EntryNotFound" })
    })
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
    const address = server.address()
    return { asked, server, url: `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}` }
  }),
  ({ server }) =>
    Effect.promise(() => {
      server.closeAllConnections()
      return new Promise((done) => server.close(done))
    })
)

layer(NodeServices.layer)("Hub", (it) => {
  it.effect("fetches a file once, by its commit, and then works offline", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { asked, url } = yield* hub
      const cacheDir = yield* fs.makeTempDirectoryScoped()
      const options = { dataset: "o/n", revision: "v1", cacheDir, hubUrl: url, path: "data/p.jsonl" }
      const rows = (more: Partial<Hub.FileOptions> = {}) =>
        Effect.map(Stream.runCollect(Hub.read({ ...options, ...more })), (all) =>
          all.map((result) => (Result.isSuccess(result) ? result.success.row["prompt"] : result.failure.line))
        )
      const message = (more: Partial<Hub.FileOptions>) => Effect.map(Effect.flip(rows(more)), (error) => error.message)

      assert.include(yield* message({ offline: true }), "o/n at v1 is not in the cache")
      assert.strictEqual(asked.length, 0)

      assert.deepStrictEqual(yield* Hub.list(options), ["data/p.jsonl"])
      assert.deepStrictEqual(yield* rows({ accessToken: Redacted.make("hf_secret") }), ["a", 2, "b"])
      assert.isTrue(asked.at(-1)?.endsWith("Bearer hf_secret"))
      // What is known is not written again: a cache that is shared may be one to read alone.
      const ref = yield* fs.stat(`${cacheDir}/datasets--o--n/refs/v1`)
      assert.deepStrictEqual(yield* rows(), ["a", 2, "b"])
      assert.deepStrictEqual((yield* fs.stat(`${cacheDir}/datasets--o--n/refs/v1`)).ino, ref.ino)
      const count = asked.length
      assert.deepStrictEqual(yield* rows({ revision: commit }), ["a", 2, "b"])
      assert.deepStrictEqual(yield* rows({ offline: true }), ["a", 2, "b"])
      assert.deepStrictEqual(yield* Hub.list({ ...options, offline: true }), ["data/p.jsonl"])
      assert.strictEqual(asked.length, count)

      assert.include(yield* message({ path: "q.jsonl", offline: true }), "o/n/q.jsonl is not in the cache")
      assert.include(yield* message({ path: "q.jsonl" }), "There is no file q.jsonl in o/n")
      assert.include(yield* message({ revision: "v2" }), "The hub does not give o/n at v2: not there")
      assert.include(yield* message({ path: "../q.jsonl" }), "no path in a data set")
    })
  )

  it.effect("asks for any name, and keeps a file that is whole alone", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { url } = yield* hub
      const cacheDir = yield* fs.makeTempDirectoryScoped()
      const options = { dataset: "o/n", revision: commit, cacheDir, hubUrl: url }
      const { message } = yield* Effect.flip(Hub.file({ ...options, path: "data/other.jsonl" }))
      assert.include(message, "o/n/data/other.jsonl comes with other bytes than the hub's own hash of it")
      const found = yield* Hub.file({ ...options, path: "data/100% #?.jsonl" })
      assert.strictEqual(yield* fs.readFileString(found), content)
      // What a process that was killed has left behind is no file of the data set.
      yield* fs.writeFileString(Bytes.partOf(found), content.slice(0, 3))
      yield* fs.symlink(found, `${found}.${randomUUID()}.tmp`)
      assert.deepStrictEqual(yield* Hub.list({ ...options, offline: true }), ["data/100% #?.jsonl"])
    })
  )

  it.effect("goes on with a file that broke off", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { url } = yield* hub
      const cacheDir = yield* fs.makeTempDirectoryScoped()
      const options = { dataset: "o/n", revision: commit, cacheDir, hubUrl: url }
      assert.strictEqual(yield* fs.readFileString(yield* Hub.file({ ...options, path: "data/torn.jsonl" })), content)
    })
  )
})
