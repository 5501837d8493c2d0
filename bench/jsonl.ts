/**
 * Memory and speed of reading a large JSONL file: `node bench/jsonl.ts [gigabytes] [.gz|.zst]`.
 *
 * Writes a file of that size (2 GB if not given) to the temporary folder, streams it once as rows, prints what the
 * process needed at most, and removes the file. The file is written by another process, so that only reading counts.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Stream } from "effect"
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Jsonl from "../src/data/Jsonl.ts"

const gigabytes = Number(process.argv[2] ?? 2)
const packing = process.argv[3] ?? ""
const text = "How do I keep the memory small while a large file is read? ".repeat(12)

const write = (file: string) => {
  const rows = Math.ceil((gigabytes * 1e9) / (text.length + 40))
  return Stream.range(1, rows).pipe(
    Stream.map((id) => ({ id, prompt: `${id} ${text}`, kind: "harmful" })),
    Jsonl.write(file)
  )
}

const read = (file: string) =>
  Effect.gen(function* () {
    let rows = 0
    const start = performance.now()
    yield* Stream.runForEachArray(Jsonl.read(file), (chunk) => Effect.sync(() => (rows += chunk.length)))
    const seconds = (performance.now() - start) / 1000
    const peak = process.resourceUsage().maxRSS / 1024
    const size = (statSync(file).size / 1e9).toFixed(2)
    console.log(
      `${gigabytes} GB as .jsonl${packing} (${size} on disk), ${rows} rows: ${seconds.toFixed(1)} s, at most ${peak.toFixed(0)} MiB resident`
    )
  })

if (process.argv[4] === "write") {
  await Effect.runPromise(Effect.provide(write(process.argv[5]!), NodeServices.layer))
} else {
  const folder = mkdtempSync(join(tmpdir(), "charter-"))
  try {
    const file = join(folder, `rows.jsonl${packing}`)
    execFileSync(process.execPath, [import.meta.filename, String(gigabytes), packing, "write", file])
    await Effect.runPromise(Effect.provide(read(file), NodeServices.layer))
  } finally {
    rmSync(folder, { recursive: true })
  }
}
