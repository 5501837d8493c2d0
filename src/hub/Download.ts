/**
 * Download: a file of the hub into the cache: resumed where it broke off, checked against the hub's hash, and never seen
 * half-written.
 */
import { HubApiError, downloadFile } from "@huggingface/hub"
import { Effect } from "effect"
import { createHash, randomUUID } from "node:crypto"
import { createReadStream } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { setTimeout } from "node:timers/promises"
import * as Folder from "../Folder.ts"
import type { Access } from "./Access.ts"
import { credentials, inAddress } from "./Access.ts"
import type { Repository } from "./HubCache.ts"
import * as HubCache from "./HubCache.ts"
import { HubError, fromCause } from "./HubError.ts"

/** Where a file comes from and what it is. */
export interface Source {
  readonly repository: Repository
  readonly commit: string
  readonly path: string
  /** In bytes. */
  readonly size: number
  /** SHA-256 of a large file, or git's SHA-1 of a small one; its name among the blobs. */
  readonly hash: string
}

/** What the hub says of a file in a list. */
interface Listed {
  readonly size: number
  readonly oid?: string
  readonly lfs?: { readonly oid: string }
}

/** The size and hash of a file that the hub lists; undefined where it has none that can be kept or checked. */
export const described = ({ lfs, oid, size }: Listed): Pick<Source, "size" | "hash"> | undefined => {
  const hash = lfs?.oid ?? oid ?? ""
  // Both become part of a path, or of a promise to the disk.
  return /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash) && Number.isSafeInteger(size) && size >= 0
    ? { size, hash }
    : undefined
}

/** How often a download is taken up that breaks off without a byte. */
const repeats = 3

const sizeOf = (file: string): Promise<number | undefined> =>
  fs.stat(file).then(
    (stat) => (stat.isFile() ? stat.size : undefined),
    () => undefined
  )

/** The hash of a file on the disk, of the kind of `expected`. */
const hashOf = async (file: string, size: number, expected: string): Promise<string> => {
  const hash = expected.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${size}\0`)
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk)
  return hash.digest("hex")
}

/**
 * The file's path in the snapshot, fetched if the cache does not have it. `onBytes` is told how many bytes have become
 * there, those of an earlier start included.
 */
export const file = (
  source: Source,
  cacheDir: string,
  access: Access,
  onBytes: (bytes: number) => void
): Effect.Effect<string, HubError> => {
  const name = `${source.repository.name}/${source.path}`
  return Effect.tryPromise({
    try: async (signal) => {
      const folder = HubCache.folder(cacheDir, source.repository)
      const target = path.join(folder, "snapshots", source.commit, source.path)
      const blob = path.join(folder, "blobs", source.hash)
      if ((await sizeOf(target)) !== source.size) {
        await fetchBlob(source, blob, name, access, onBytes, signal)
        await link(blob, target)
      } else onBytes(source.size)
      return target
    },
    catch: (cause) => fromCause(name, cause)
  })
}

/**
 * Fetches a file's bytes where they are missing. Several processes may do so at once: all write the same bytes at the
 * same places of one file, and what is renamed has been read back and hashed.
 */
const fetchBlob = async (
  source: Source,
  blob: string,
  name: string,
  access: Access,
  onBytes: (bytes: number) => void,
  signal: AbortSignal
): Promise<void> => {
  Folder.makeUnsafe(path.dirname(blob))
  // The name that Python's library resumes from, too.
  const incomplete = `${blob}.incomplete`
  const isThere = async () => (await sizeOf(blob)) === source.size
  const present = async () => {
    const size = (await sizeOf(incomplete)) ?? 0
    return size > source.size ? 0 : size
  }
  let [told, most, failures, restarts, resumed] = [0, 0, 0, 0, false]
  const tell = (have: number) => {
    onBytes(have - told)
    told = have
  }
  for (;;) {
    if (await isThere()) return tell(source.size)
    const before = await present()
    resumed ||= before > 0
    tell(before)
    try {
      await append(source, incomplete, before, access, tell, signal)
    } catch (cause) {
      const final = cause instanceof HubError || (cause instanceof HubApiError && cause.statusCode < 500)
      const now = await present()
      // A server that begins anew each time gets no further than before.
      failures = now > Math.max(before, most) ? 0 : failures + 1
      most = Math.max(most, now)
      if (final || signal.aborted || failures > repeats) throw cause
      await setTimeout(100 * 2 ** failures, undefined, { signal })
      continue
    }
    try {
      if ((await hashOf(incomplete, source.size, source.hash)) === source.hash) {
        return await fs.rename(incomplete, blob)
      }
    } catch (cause) {
      if (await isThere()) continue // Another process was faster.
      throw cause
    }
    await fs.rm(incomplete, { force: true })
    // What was there from an earlier start may be to blame: once more from the beginning.
    if (!resumed || restarts++ > 0) {
      throw new HubError({
        file: name,
        reason: "comes with other bytes than the hub's own hash of it; try again later",
        offline: false
      })
    }
    ;[most, resumed] = [0, false]
  }
}

/** Fetches what is missing behind the first `have` bytes. */
const append = async (
  source: Source,
  incomplete: string,
  have: number,
  access: Access,
  tell: (have: number) => void,
  signal: AbortSignal
): Promise<void> => {
  // A stream of the library's ends with words alone.
  let refusal: HubApiError | undefined
  // What another process has written to it meanwhile stays.
  const handle = await fs.open(incomplete, fs.constants.O_RDWR | fs.constants.O_CREAT)
  try {
    if ((await handle.stat()).size > source.size) await handle.truncate(0)
    if (have < source.size) {
      const { commit, path, repository, size } = source
      const whole = await downloadFile({
        repo: { type: repository.type, name: repository.name },
        path: inAddress(path),
        revision: commit,
        ...credentials(access, { signal, onRefusal: (error) => (refusal = error) })
      })
      if (whole === null) throw new Error("the repository lists the file but does not give it")
      if (whole.size !== size) throw new Error(`the hub gives ${whole.size} bytes where it lists ${size}`)
      for await (const chunk of whole.slice(have).stream() as AsyncIterable<Uint8Array>) {
        signal.throwIfAborted()
        if (have + chunk.length > size) {
          // The end of the file was asked for and its beginning came: nothing of it can be used.
          await handle.truncate(0)
          throw new Error("the hub gives more bytes than the file has")
        }
        await writeAll(handle, chunk, have)
        tell((have += chunk.length))
      }
      if (have < size) throw new Error(`it broke off after ${have} of ${size} bytes`)
    }
    // A rename must not reach the disk before the bytes do.
    await handle.sync()
  } catch (cause) {
    throw refusal ?? cause
  } finally {
    await handle.close()
  }
}

const writeAll = async (handle: fs.FileHandle, bytes: Uint8Array, position: number): Promise<void> => {
  for (let done = 0; done < bytes.length;) {
    done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten
  }
}

/** Whether a name in a snapshot is one that a process has left behind which was killed. */
export const isUnfinished = (name: string): boolean => /\.[0-9a-f-]{36}\.tmp$/.test(name)

/** Puts a blob where its snapshot has it; others may read there at the same time. */
const link = async (blob: string, target: string): Promise<void> => {
  Folder.makeUnsafe(path.dirname(target))
  const temporary = `${target}.${randomUUID()}.tmp`
  try {
    await fs.symlink(path.relative(path.dirname(target), blob), temporary)
  } catch {
    // Where a disk has no links, the snapshot has the file itself, as with Python's library.
    return fs.rename(blob, target)
  }
  await fs.rename(temporary, target)
}
