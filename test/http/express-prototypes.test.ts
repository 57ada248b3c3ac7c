import type { Server } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import type { Express, NextFunction, Request, Response } from 'express'
import express from 'express'
import { createExpressServer } from '../../src/http/express-prototypes.ts'

function application(): Express {
  const app = express()
  app.set('trust proxy', true)
  app.get(
    '/json',
    (request, response) => void response.json({ ip: request.ip, xhr: request.xhr, q: request.query }),
  )
  app.get('/redirect', (_request, response) => response.redirect('/json'))
  app.get('/cookie', (_request, response) => void response.cookie('a', 'b', { httpOnly: true }).send('set'))
  app.get('/file', (_request, response) => response.sendFile(fileURLToPath(import.meta.url)))
  app.get(
    '/params/:name',
    (request, response) => void response.send(`${request.params.name} ${request.app === app}`),
  )
  app.get('/accepts', (request, response) => void response.send(String(request.accepts(['html', 'json']))))
  app.get('/type', (_request, response) => void response.status(201).type('text/plain').send('typed'))
  app.get('/throws', () => {
    throw new Error('sync')
  })
  app.get('/rejects', async () => {
    throw new Error('async')
  })
  app.post('/body', express.json(), (request, response) => void response.json(request.body))
  const sub = express()
  sub.get(
    '/inner',
    (request, response) => void response.json({ base: request.baseUrl, sub: request.app === sub }),
  )
  app.use('/sub', sub)
  const router = express.Router()
  router.use((_request, response, next) => {
    response.locals['seen'] = true
    next()
  })
  router.get('/deep', (_request, response) => void response.json(response.locals))
  app.use('/router', router)
  app.use((error: Error, _request: Request, response: Response, _next: NextFunction) => {
    response.status(500).json({ error: error.message })
  })
  return app
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function observe(url: string, path: string, init: RequestInit): Promise<unknown> {
  const answer = await fetch(url + path, { redirect: 'manual', ...init })
  const headers = Object.fromEntries([...answer.headers].filter(([name]) => name !== 'date'))
  return { status: answer.status, headers, body: await answer.text() }
}

describe('a server born with Express prototypes', () => {
  const servers: Server[] = []
  let stock = ''
  let preset = ''
  before(async () => {
    const ordinary = createServer(application())
    const app = application()
    const fast = createExpressServer(app, {}, null)
    servers.push(ordinary, fast)
    stock = await listen(ordinary)
    preset = await listen(fast)
  })
  after(() => {
    for (const server of servers) server.close()
  })

  const cases: readonly (readonly [string, RequestInit])[] = [
    ['/json?a=1', { headers: { 'x-forwarded-for': '10.1.1.1', 'x-requested-with': 'XMLHttpRequest' } }],
    ['/redirect', {}],
    ['/cookie', {}],
    ['/file', {}],
    ['/file', { method: 'HEAD' }],
    ['/params/caf%C3%A9', {}],
    ['/accepts', { headers: { accept: 'application/json' } }],
    ['/type', {}],
    ['/throws', {}],
    ['/rejects', {}],
    ['/body', { method: 'POST', body: '{"a":1}', headers: { 'content-type': 'application/json' } }],
    ['/body', { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } }],
    ['/sub/inner', {}],
    ['/router/deep', {}],
    ['/json', { method: 'OPTIONS' }],
    ['/missing', {}],
  ]
  for (const [path, init] of cases) {
    it(`answers ${init.method ?? 'GET'} ${path} like an ordinary Express server`, async () => {
      expect(await observe(preset, path, init)).to.deep.equal(await observe(stock, path, init))
    })
  }

  it('gives requests the prototypes that Express is about to set, so that it changes nothing', async () => {
    const app = express()
    const seen: boolean[] = []
    const server = createExpressServer(app, {}, null)
    servers.push(server)
    server.prependListener('request', (request, response) => {
      seen.push(
        Object.getPrototypeOf(request) === app.request,
        Object.getPrototypeOf(response) === app.response,
      )
    })
    app.get('/', (_request, response) => void response.send('ok'))
    await (await fetch(await listen(server))).text()
    expect(seen).to.deep.equal([true, true])
  })
})
