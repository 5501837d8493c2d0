/**
 * HubError: what the hub does not give, and what to do about it.
 */
import { HubApiError } from "@huggingface/hub"
import { Schema } from "effect"

/** A repository or a file of the hub that cannot be had. */
export class HubError extends Schema.TaggedError<HubError>()("HubError", {
  /** The repository or a file in it. */
  file: Schema.String,
  reason: Schema.String,
  /** Whether the hub says nothing: it is not reached, or out of order. */
  offline: Schema.Boolean
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

const answers: Readonly<Record<number, string>> = {
  401: "is not on the hub, or is private; check its name, or set HF_TOKEN to a token that may read it",
  403: "may not be read; accept its terms on its page of the hub and set HF_TOKEN to a token of that account",
  404: "is not on the hub; check its name and revision",
  429: "is not given now because the hub has been asked too often (429); try again in some minutes"
}

/** What a disk says that does not take a file. */
const unkept = new Set(["EACCES", "EDQUOT", "EFBIG", "ENOSPC", "ENOTDIR", "EPERM", "EROFS"])

/** The error for something that the hub's library has thrown. */
export const fromCause = (file: string, cause: unknown): HubError => {
  if (cause instanceof HubError) return cause
  if (cause instanceof HubApiError) {
    const reason =
      answers[cause.statusCode] ?? `is not given: the hub answers with ${cause.statusCode}; try again later`
    return new HubError({ file, reason, offline: cause.statusCode >= 500 })
  }
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  const code = inner instanceof Error && "code" in inner && typeof inner.code === "string" ? inner.code : undefined
  const words = (inner instanceof Error ? inner.message : String(inner)).replace(/\s+/g, " ").replace(/\.+$/, "")
  if (code !== undefined && unkept.has(code) && inner === cause) {
    const reason = `cannot be kept in the cache: ${words}; set HF_HOME to a folder of yours with room for it`
    return new HubError({ file, reason, offline: false })
  }
  // What fetch throws is a TypeError around the cause.
  return cause instanceof TypeError && cause.message === "fetch failed"
    ? new HubError({
        file,
        reason: `cannot be fetched because the hub is not reached (${code ?? words}); go online, or give a folder`,
        offline: true
      })
    : new HubError({ file, reason: `cannot be fetched: ${words.slice(0, 300)}; try again`, offline: false })
}
