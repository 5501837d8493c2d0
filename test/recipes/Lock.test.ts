import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import type { Writable } from "node:stream"
import { setTimeout as sleep } from "node:timers/promises"
import * as Lock from "../../src/recipes/Lock.ts"
import { workplace } from "../workplace.ts"

/** What Linux says of a process, from its state on. */
const stat = (pid: number) => {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8")
  return text.slice(text.lastIndexOf(")") + 2).split(" ")
}

const until = (condition: () => boolean) =>
  Effect.promise(async () => {
    while (!condition()) await sleep(2)
  })

/**
 * A process whose parent never waits for it, until the scope closes: the shell that begins it becomes a program that
 * does not know of it. Its name looks like what is said of a running process, to those who do not look for its end.
 */
const unwaited = Effect.gen(function* () {
  const program = join(workplace(), "a) S 1 (b")
  writeFileSync(program, "#!/bin/sh\nread line\n", { mode: 0o755 })
  const parent = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn("sh", ["-c", '"$0" <&3 & echo $!; exec sleep 60', program], { stdio: ["ignore", "pipe", "ignore", "pipe"] })
    ),
    (parent) => Effect.sync(() => parent.kill("SIGKILL"))
  )
  const [pid] = yield* Effect.promise(() => once(parent.stdout!.setEncoding("utf8"), "data"))
  yield* until(() => readFileSync(`/proc/${parent.pid}/comm`, "utf8").trim() !== "sh")
  const end = Effect.suspend(() => {
    const input = parent.stdio[3] as Writable
    input.end("\n")
    return until(() => stat(Number(pid))[0] === "Z")
  })
  return { pid: Number(pid), end }
})

/** A folder that a process of this machine holds. */
const heldBy = (pid: number) => {
  const dir = workplace()
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
  const owner = { pid, host: hostname(), born: `${boot}:${stat(pid)[19]}` }
  writeFileSync(join(dir, Lock.fileName), JSON.stringify(owner))
  return dir
}

describe.skipIf(!existsSync("/proc/self/stat"))("the lock of a folder", () => {
  it.live("is that of a process that runs, whatever its name is, and is taken over when that has ended", () =>
    Effect.gen(function* () {
      const { end, pid } = yield* unwaited
      const dir = heldBy(pid)
      const { message } = yield* Effect.flip(Lock.hold(dir))
      assert.strictEqual(message, `${dir} is in use by process ${pid}; wait for it to end, or use another --out.`)
      // Its parent does not wait for it: it keeps its number, and can be signalled.
      yield* end
      assert.isTrue(process.kill(pid, 0))
      yield* Lock.hold(dir)
      assert.strictEqual(JSON.parse(readFileSync(join(dir, Lock.fileName), "utf8")).pid, process.pid)
    }).pipe(Effect.scoped)
  )
})
