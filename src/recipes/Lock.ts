/**
 * Lock: one writer for a run folder. The lock of a process that is gone is taken over.
 */
import { Effect } from "effect"
import type { Scope } from "effect"
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import * as Folder from "../Folder.ts"
import { readUnsafe, reasonOf } from "./Atomic.ts"
import { refuse, type RunError } from "./RunError.ts"

/** Who holds the lock. */
interface Owner {
  readonly pid: number
  readonly host: string
  /** What tells a process from a later one with the same number, where the system says it. */
  readonly born: string
}

/** The file that says who writes to a run folder. */
export const fileName = "run.lock"

/**
 * What the system says of a process, from its state on (proc_pid_stat(5), fields from 3); nothing where there is no
 * `/proc`, or no such process.
 */
const stat = (pid: number): ReadonlyArray<string> => {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8")
    // The name of the program, in parentheses, may hold spaces and parentheses: fields are counted from behind it.
    return text.slice(text.lastIndexOf(")") + 2).split(" ")
  } catch {
    return []
  }
}

/** When a process began, in ticks of the machine's current run; empty where the system does not say it. */
const born = (pid: number): string => {
  const ticks = stat(pid)[19]
  if (ticks === undefined) return ""
  try {
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()}:${ticks}`
  } catch {
    return ""
  }
}

/**
 * Whether a process has ended that still has its number, because its parent has not waited for it. Where its first
 * thread has ended alone, another one may still be writing.
 */
const isZombie = (pid: number): boolean => {
  const fields = stat(pid)
  return ["Z", "X", "x"].includes(fields[0] ?? "") && Number(fields[17]) <= 1
}

const isAlive = ({ pid, born: begun }: Owner): boolean => {
  try {
    process.kill(pid, 0)
  } catch (error) {
    // A process of another user cannot be signalled, but it is there.
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false
  }
  return !isZombie(pid) && born(pid) === begun
}

const parse = (text: string): Owner | undefined => {
  try {
    const owner = JSON.parse(text) as Owner
    return typeof owner.pid === "number" ? owner : undefined
  } catch {
    return undefined
  }
}

const acquire = (dir: string): RunError | undefined => {
  const file = join(dir, fileName)
  const me: Owner = { pid: process.pid, host: hostname(), born: born(process.pid) }
  Folder.makeUnsafe(dir)
  for (;;) {
    if (create(file, JSON.stringify(me))) return undefined
    const text = readUnsafe(file)
    const owner = text === undefined ? undefined : parse(text)
    // An unreadable lock was torn by a crash; only a live owner, or one on another machine, keeps others out.
    if (owner !== undefined && owner.host !== me.host) {
      return refuse(`${dir} is in use by process ${owner.pid} on ${owner.host}; if that one is gone, delete ${file}.`)
    }
    if (owner !== undefined && isAlive(owner)) {
      return refuse(`${dir} is in use by process ${owner.pid}; wait for it to end, or use another --out.`)
    }
    // Of several that see the same dead owner, the rename succeeds for one; where the lock has just gone, for none.
    const aside = `${file}.${process.pid}.stale`
    try {
      renameSync(file, aside)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") continue
      throw error
    }
    // Another one may have taken over between the look and the rename: then this is its lock, and it goes back.
    const other = readUnsafe(aside)
    if (other !== undefined && other !== text) create(file, other)
    rmSync(aside, { force: true })
  }
}

/** Makes the file with all of its content at once; false when there is one already. */
const create = (file: string, content: string): boolean => {
  const beside = `${file}.${process.pid}.new`
  writeFileSync(beside, content)
  try {
    linkSync(beside, file)
    return true
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === "EEXIST") return false
    // A file system without hard links: the next best is a file that is made only where there is none.
    return createExclusive(file, content)
  } finally {
    rmSync(beside, { force: true })
  }
}

const createExclusive = (file: string, content: string): boolean => {
  try {
    writeFileSync(file, content, { flag: "wx" })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false
    throw error
  }
}

/** Holds the lock of a folder for as long as the scope lasts. */
export const hold = (dir: string): Effect.Effect<void, RunError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => acquire(dir),
      catch: (cause) => refuse(`${dir} cannot be written: ${reasonOf(cause)}.`)
    }).pipe(Effect.flatMap((error) => (error === undefined ? Effect.void : Effect.fail(error)))),
    () => Effect.sync(() => rmSync(join(dir, fileName), { force: true }))
  )
