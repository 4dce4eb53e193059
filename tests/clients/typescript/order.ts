// An order, placed and followed to its end with what openapi-typescript makes of docs/openapi.yaml.
// tests/acceptance/test_api_quickstart.py compiles and runs it.

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.js";

declare const process: { env: Record<string, string | undefined> };

type NewOrder = components["schemas"]["NewOrder"];
type Order = components["schemas"]["Order"];
type Status = Order["status"];

const FINAL: ReadonlySet<Status> = new Set<Status>(["fulfilled", "cancelled", "closed"]);

const client = createClient<paths>({
  baseUrl: process.env["WEB_URL"] ?? "",
  headers: { Authorization: `Bearer ${process.env["API_TOKEN"]}` },
});

function toOrder(sku: string, quantity: number): NewOrder {
  return {
    customer: { name: "Ana Souza", email: "ana@example.com", tax_id: "529.982.247-25" },
    lines: [{ sku, quantity }],
    payment: { method: "card", token: "tok_ok" },
    shipping_address: {
      recipient: "Ana Souza",
      street: "Rua das Flores",
      number: "12-A",
      city: "São Paulo",
      state: "SP",
      postal_code: "01310-100",
      country: "BR",
    },
  };
}

async function place(body: NewOrder, key: string) {
  return client.POST("/api/v1/orders", { params: { header: { "Idempotency-Key": key } }, body });
}

async function ended(order: { number: string; status: Status }): Promise<Order> {
  for (;;) {
    const { data, error } = await client.GET("/api/v1/orders/{order_id}", {
      params: { path: { order_id: order.number }, query: { wait: 30 } },
    });
    if (error !== undefined) throw new Error(error.detail);
    if (FINAL.has(data.status)) return data;
  }
}

const { data: products } = await client.GET("/api/v1/products", { params: { query: { limit: 1 } } });
const sku = products?.results[0]?.sku ?? "";

const key = crypto.randomUUID();
const { data: placed, error, response } = await place(toOrder(sku, 1), key);
if (placed === undefined) throw new Error(error.detail);
console.log(response.status, placed.number, placed.status);

const again = await place(toOrder(sku, 1), key);
console.log(again.data?.id === placed.id, again.response.headers.get("Idempotency-Replayed"));

const order = await ended(placed);
console.log(order.status, order.invoice?.access_key !== null, order.total.amount, order.total.currency);

const refused = await place(toOrder(sku, 0), crypto.randomUUID());
if (refused.error === undefined) throw new Error("an order of nothing was taken");
const fault = refused.error.errors?.[0];
console.log(refused.response.status, refused.error.type, fault && "pointer" in fault ? fault.pointer : undefined);
