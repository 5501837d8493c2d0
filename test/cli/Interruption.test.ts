import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

const blocked = fileURLToPath(new URL("blocked.ts", import.meta.url))
const deserted = fileURLToPath(new URL("deserted.ts", import.meta.url))

/** Starts a program whose thread does not end by itself and sends it signals. */
const interrupt = async (wait: number, signals: ReadonlyArray<NodeJS.Signals>) => {
  const child = spawn(process.execPath, [blocked, String(wait)])
  let said = ""
  child.stderr.on("data", (text) => (said += text))
  const ended = once(child, "exit")
  await once(child.stdout, "data")
  for (const signal of signals) {
    child.kill(signal)
    // Two of the same that are pending at once arrive as one.
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  const waited = child.exitCode === null && child.signalCode === null
  const [code, signal] = await ended
  return { code, signal, said: said.trim(), waited }
}

describe("an interrupted program whose thread is in native code", () => {
  const end = { code: 130, signal: null, said: "Interrupted; to go on: charter run" }

  it("ends with 130 and a sentence after its patience, by any signal", async () => {
    assert.deepInclude(await interrupt(100, ["SIGINT"]), end)
    assert.deepInclude(await interrupt(100, ["SIGTERM"]), end)
    assert.deepInclude(await interrupt(100, ["SIGHUP"]), end)
  })

  it("ends at once at the second signal", async () => {
    // Its patience is an hour.
    assert.deepInclude(await interrupt(3_600_000, ["SIGINT", "SIGINT"]), end)
  })

  it("has its time when a terminal is closed, which may be told several times and beside another signal", async () => {
    assert.deepStrictEqual(await interrupt(1500, ["SIGHUP", "SIGHUP", "SIGTERM"]), { ...end, waited: true })
    assert.deepStrictEqual(await interrupt(1500, ["SIGTERM", "SIGHUP"]), { ...end, waited: true })
  })
})

describe("a program whose terminal is gone", () => {
  it("goes on, though nobody reads what it says", async () => {
    const child = spawn(process.execPath, [deserted], { stdio: ["pipe", "pipe", "pipe"] })
    const ended = once(child, "exit")
    let answered = ""
    child.stdout.on("data", (text) => (answered += text))
    await once(child.stdout, "data")
    child.stderr.destroy()
    child.stdin.end()
    assert.deepStrictEqual(await ended, [0, null])
    assert.strictEqual(answered, "ready\nstill there\n")
  })
})
