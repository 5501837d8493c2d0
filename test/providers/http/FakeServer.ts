/** A server on the loopback, which answers as it is told and remembers what it was asked. */
import { createServer } from "node:http"
import type { IncomingHttpHeaders, ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"

export interface Asked {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: any
}

/** How a request is answered, by its number from 0. */
export type Answer = (response: ServerResponse, asked: Asked, n: number) => void

export const json =
  (body: unknown, status = 200, headers: Record<string, string> = {}): Answer =>
  (response) =>
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body))

export const raw =
  (text: string): Answer =>
  (response) =>
    response.writeHead(200, { "content-type": "application/json" }).end(text)

/** The connection ends within the body. */
export const half: Answer = (response) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": "1000" })
  response.write('{"choices": [', () => response.socket?.destroy())
}

/** Nothing at all. */
export const silent: Answer = () => {}

/** One answer after the other; the last one for all that follow. */
export const script =
  (...answers: ReadonlyArray<Answer>): Answer =>
  (response, asked, n) =>
    answers[Math.min(n, answers.length - 1)]!(response, asked, n)

export const start = (answer: Answer) =>
  Effect.acquireRelease(
    Effect.promise(
      () =>
        new Promise<{ url: string; asked: Array<Asked>; most: () => number; busy: () => number; stop: () => void }>(
          (resolve) => {
            const asked: Array<Asked> = []
            let now = 0
            let most = 0
            let arriving = 0
            const server = createServer((request, response) => {
              arriving++
              most = Math.max(most, ++now)
              let left = false
              const leave = () => {
                if (!left) now--
                left = true
              }
              response.on("finish", leave)
              response.on("close", leave)
              let text = ""
              request.on("data", (piece) => (text += piece))
              request.on("end", () => {
                arriving--
                const one = { path: request.url ?? "", headers: request.headers, body: JSON.parse(text) }
                asked.push(one)
                answer(response, one, asked.length - 1)
              })
            })
            server.listen(0, "127.0.0.1", () => {
              const { port } = server.address() as AddressInfo
              const stop = () => {
                server.closeAllConnections()
                server.close()
              }
              resolve({ url: `http://127.0.0.1:${port}/v1`, asked, most: () => most, busy: () => arriving, stop })
            })
          }
        )
    ),
    ({ stop }) => Effect.sync(stop)
  )

/** Real time for real sockets, while the test clock stands. */
const moment = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 3)))

/**
 * Runs an effect, moving the test clock in steps of `step` seconds; gives its exit and the seconds that passed. The
 * clock stands while `hold` says so: a busy machine may need real time to bring a request to the server.
 */
export const drive = Effect.fnUntraced(function* <A, E, R>(
  self: Effect.Effect<A, E, R>,
  step = 0.1,
  hold: (seconds: number) => boolean = () => false
) {
  const fiber = yield* Effect.forkChild(Effect.exit(self))
  let seconds = 0
  while (fiber.pollUnsafe() === undefined) {
    yield* moment
    if (hold(seconds)) continue
    yield* TestClock.adjust(`${step * 1000} millis`)
    seconds += step
  }
  return { exit: yield* Fiber.join(fiber), seconds }
})
