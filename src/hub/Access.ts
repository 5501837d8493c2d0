/**
 * Access: how the hub is asked: where it is, with whose token, and how often when it is busy.
 */
import { HubApiError } from "@huggingface/hub"
import { Redacted } from "effect"
import { setTimeout } from "node:timers/promises"
import { HubError } from "./HubError.ts"

/** Where the hub is, and the token that it knows a person by. */
export interface Access {
  readonly endpoint: string
  readonly token: Redacted.Redacted | undefined
}

/** How a request may end before its answer. */
export interface Options {
  readonly signal?: AbortSignal
  /** Told of an answer that refuses. */
  readonly onRefusal?: (refusal: HubApiError) => void
}

/** How often a request is repeated that the hub refuses for now. */
const repeats = 3

/**
 * The arguments of the hub's library. The token is not among them: the library would hand it to the hosts that keep the
 * hub's large files, and take only those of huggingface.co itself. Throws a `HubError` for what the environment has
 * wrong.
 */
export const credentials = ({ endpoint, token }: Access, options: Options = {}) => {
  const address = URL.parse(endpoint)
  if (address === null || !/^https?:$/.test(address.protocol)) {
    throw new HubError({
      file: "HF_ENDPOINT",
      reason: "is not the address of a hub; set it to one that starts with https://, or unset it",
      offline: false
    })
  }
  const secret = token === undefined ? undefined : Redacted.value(token)
  // What fetch says of such a header has the header in it.
  if (secret !== undefined && !/^[\x21-\x7e]+$/.test(secret)) {
    throw new HubError({
      file: "HF_TOKEN",
      reason: "has characters that are in no token; set it to the token alone, or unset it and log in anew",
      offline: false
    })
  }
  return { hubUrl: endpoint, fetch: patient(known(address.origin, secret), options) }
}

/** A file's path as an address has it: the library puts it there as it is, where `#`, `?` and `%` mean other things. */
export const inAddress = (path: string): string => path.split("/").map(encodeURIComponent).join("/")

type Fetch = typeof fetch

/** A fetch that shows the token to the hub and to no other host. */
const known =
  (origin: string, secret: string | undefined): Fetch =>
  (input, init) => {
    const request = new Request(input, init)
    // Where a redirect leads to another host, fetch itself leaves it out.
    if (secret !== undefined && new URL(request.url).origin === origin) {
      request.headers.set("authorization", `Bearer ${secret}`)
    }
    return fetch(request)
  }

/** A fetch that waits when the hub asks it to. */
const patient =
  (ask: Fetch, { onRefusal, signal }: Options): Fetch =>
  async (input, init) => {
    for (let attempt = 0; ; attempt++) {
      const response = await ask(input, { ...init, ...(signal === undefined ? {} : { signal }) })
      if (attempt === repeats || (response.status !== 429 && response.status < 500)) {
        if (!response.ok) onRefusal?.(refusalOf(response))
        return response
      }
      await response.body?.cancel()
      const asked = Number(response.headers.get("retry-after") ?? Number.NaN)
      const wait = Number.isFinite(asked) ? Math.min(60_000, asked * 1000) : 500 * 2 ** attempt
      await setTimeout(wait, undefined, signal === undefined ? {} : { signal })
    }
  }

/** A repository with terms answers those who do not say who they are with 401, as one that does not exist does. */
const refusalOf = ({ headers, status, url }: Response): HubApiError =>
  new HubApiError(url, headers.get("x-error-code") === "GatedRepo" ? 403 : status)
