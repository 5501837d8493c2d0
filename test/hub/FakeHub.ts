/**
 * A hub on this machine: the endpoints that models are fetched through, with the failures a test asks for.
 */
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { createServer } from "node:http"
import type { ServerResponse } from "node:http"

export const commit = "c".repeat(40)

/** What a hub does with a request for a file's bytes; undefined to serve it. */
export type Behaviour = (request: {
  readonly path: string
  /** The first byte that is asked for. */
  readonly from: number
  /** How often this file's bytes were asked for, this time included. */
  readonly times: number
}) =>
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  /** Break off after so many bytes, of those asked for or, as one that knows no ranges, of the whole file. */
  | { readonly cut: number; readonly of?: "whole" }
  /** Serve other bytes, whatever the range. */
  | { readonly instead: Buffer }
  | undefined

export interface Entry {
  readonly bytes: Buffer
  /** Whether the file is listed as a large one, by its SHA-256. */
  readonly large?: boolean
  readonly hash?: string
  /** Another host that has its bytes. */
  readonly at?: string
}

const gitHash = (bytes: Buffer) => createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex")
const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")

/** A hub with the model `o/n`; `asked` are the requests so far. */
export const make = (files: Readonly<Record<string, Entry>>, behave: Behaviour = () => undefined) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const asked: Array<string> = []
      const times = new Map<string, number>()
      let status = 200
      const json = (response: ServerResponse, body: unknown) =>
        response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body))
      const server = createServer((request, response) => {
        const url = decodeURIComponent((request.url ?? "").split("?")[0]!)
        asked.push(`${url} ${request.headers.range ?? "-"} ${request.headers.authorization ?? "-"}`)
        const refuse = (code: number, headers: Readonly<Record<string, string>> = {}) =>
          response.writeHead(code, { "content-type": "application/json", ...headers }).end('{"error":"no"}')
        // Nobody waits before asking again.
        if (status !== 200) return refuse(status, { "retry-after": "0" })
        if (url === "/api/models/o/n/revision/main") return json(response, { _id: "1", id: "o/n", sha: commit })
        const tree = `/api/models/o/n/tree/${commit}`
        if (url === tree || url.startsWith(`${tree}/`)) {
          const folder = url.slice(tree.length + 1)
          const within = Object.entries(files).filter(([path]) => folder === "" || path.startsWith(`${folder}/`))
          const parts = folder === "" ? 1 : folder.split("/").length + 1
          const nested = within.map(([path]) => path.split("/")).filter((path) => path.length > parts)
          const folders = new Set(nested.map((path) => path.slice(0, parts).join("/")))
          return json(response, [
            ...within
              .filter(([path]) => path.split("/").length === parts)
              .map(([path, { bytes, hash, large }]) => ({
                type: "file",
                path,
                size: bytes.length,
                oid: large === true ? "0".repeat(40) : (hash ?? gitHash(bytes)),
                ...(large === true ? { lfs: { oid: hash ?? sha256(bytes), size: bytes.length, pointerSize: 130 } } : {})
              })),
            ...Array.from(folders, (path) => ({ type: "directory", path, size: 0, oid: "" }))
          ])
        }
        const path = url.startsWith(`/o/n/resolve/${commit}/`) ? url.slice(`/o/n/resolve/${commit}/`.length) : ""
        const found = files[path]
        if (found === undefined) return refuse(404, { "x-error-code": "EntryNotFound" })
        const { at, bytes } = found
        if (at !== undefined) return response.writeHead(302, { location: `${at}${request.url}` }).end()
        const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "")
        const [from, to] = range === null ? [0, bytes.length - 1] : [Number(range[1]), Number(range[2])]
        const headers = {
          etag: '"e"',
          "x-cache": "Miss from cloudfront",
          "content-length": to - from + 1,
          ...(range === null ? {} : { "content-range": `bytes ${from}-${to}/${bytes.length}` })
        }
        const code = range === null ? 200 : 206
        // What asks for one byte asks for the size.
        if (range !== null && from === 0 && to === 0) return response.writeHead(code, headers).end(bytes.subarray(0, 1))
        const count = (times.get(path) ?? 0) + 1
        times.set(path, count)
        const how = behave({ path, from, times: count })
        if (how === undefined) return response.writeHead(code, headers).end(bytes.subarray(from, to + 1))
        if ("status" in how) return refuse(how.status, how.headers)
        if ("instead" in how) return response.writeHead(200).end(how.instead)
        const whole = how.of === "whole"
        if (whole) response.writeHead(200, { "content-length": bytes.length })
        else response.writeHead(code, headers)
        const first = whole ? 0 : from
        return response.write(bytes.subarray(first, first + how.cut), () => setImmediate(() => response.destroy()))
      })
      await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
      const address = server.address()
      const port = typeof address === "object" ? address?.port : 0
      return {
        asked,
        endpoint: `http://127.0.0.1:${port}`,
        server,
        /** From now on, answers everything with this status. */
        answer: (code: number) => {
          status = code
        }
      }
    }),
    ({ server }) =>
      Effect.promise(() => {
        server.closeAllConnections()
        return new Promise((done) => server.close(done))
      })
  )
