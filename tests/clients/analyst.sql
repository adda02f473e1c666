SELECT count(*) FROM orders
SELECT partition, count(*), min("offset"), max("offset") FROM orders GROUP BY partition ORDER BY 1
SELECT value->>'city' AS city, count(*) AS n FROM orders GROUP BY 1 ORDER BY n DESC, city
SELECT value->>'city', sum(json_get_int(value, 'amount')), avg(json_get_int(value, 'amount')) FROM orders GROUP BY 1 ORDER BY 1
SELECT text(key), count(*) FROM orders GROUP BY 1 HAVING count(*) > 25 ORDER BY 2 DESC, 1 LIMIT 7
SELECT DISTINCT value->>'city' FROM orders ORDER BY 1
SELECT count(DISTINCT text(key)), count(key), count(*) FROM orders
SELECT "offset", text(value) FROM orders WHERE partition = 1 AND "offset" BETWEEN 100 AND 104 ORDER BY 1
SELECT * FROM (SELECT partition, "offset", row_number() OVER (PARTITION BY partition ORDER BY "offset" DESC) AS r FROM orders) t WHERE r <= 2 ORDER BY 1, 2
SELECT partition, "offset", json_get_int(value, 'amount') - lag(json_get_int(value, 'amount')) OVER (PARTITION BY partition ORDER BY "offset") AS step FROM orders WHERE "offset" < 6 ORDER BY 1, 2
SELECT "offset", sum(json_get_int(value, 'amount')) OVER (ORDER BY "offset" ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM orders WHERE partition = 0 AND "offset" < 20 ORDER BY 1
SELECT date_trunc('hour', timestamp) AS hour, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT extract(minute FROM timestamp) AS m, count(*) FROM orders GROUP BY 1 ORDER BY 1 LIMIT 5
SELECT count(*) FROM orders WHERE timestamp >= TIMESTAMPTZ '2023-11-14 22:20:00+00' AND timestamp < TIMESTAMPTZ '2023-11-14 22:30:00+00'
SELECT min(timestamp), max(timestamp) FROM orders
SELECT o.partition, count(*) FROM orders o JOIN clicks c ON text(o.key) = text(c.key) GROUP BY 1 ORDER BY 1
SELECT text(o.key), c."offset" FROM orders o LEFT JOIN clicks c ON text(o.key) = text(c.key) AND c."offset" < 5 WHERE o."offset" = 3 ORDER BY 1, 2 NULLS LAST
SELECT count(*) FROM orders o WHERE EXISTS (SELECT 1 FROM clicks c WHERE text(c.key) = text(o.key))
SELECT count(*) FROM orders o WHERE text(key) NOT IN (SELECT text(key) FROM clicks WHERE key IS NOT NULL) AND key IS NOT NULL
SELECT count(*) FROM clicks a JOIN clicks b ON a."offset" < b."offset" AND a.partition = b.partition
SELECT count(*) FROM clicks a, clicks b, clicks c WHERE a.partition = 0 AND b.partition = 0 AND c.partition = 0 AND a."offset" < b."offset" AND b."offset" < c."offset" AND c."offset" < 20
WITH big AS (SELECT text(key) AS k, sum(json_get_int(value, 'amount')) AS s FROM orders GROUP BY 1) SELECT count(*), max(s), min(s) FROM big WHERE s > 500
WITH RECURSIVE chain AS (SELECT partition, "offset" FROM orders WHERE partition = 0 AND "offset" = 1 UNION ALL SELECT o.partition, o."offset" FROM orders o JOIN chain c ON o."offset" = c."offset" * 2 AND o.partition = c.partition) SELECT count(*), max("offset") FROM chain
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT sum(i) FROM n
SELECT value->>'city' FROM orders WHERE partition = 0 AND "offset" < 3 UNION ALL SELECT 'end' ORDER BY 1
SELECT value->>'city' FROM orders EXCEPT SELECT 'Lima' ORDER BY 1
SELECT value->>'city' FROM orders INTERSECT SELECT unnest(ARRAY['Lima', 'Rome']) ORDER BY 1
SELECT CASE WHEN json_get_int(value, 'amount') < 50 THEN 'small' ELSE 'large' END AS size, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT coalesce(text(key), 'none') AS k, count(*) FROM orders GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3
SELECT upper(value->>'city'), length(value->>'city') FROM orders WHERE "offset" < 2 ORDER BY 1, 2
SELECT count(*) FROM orders WHERE value->>'city' LIKE 'Z%'
SELECT count(*) FROM orders WHERE text(value) LIKE '%Lima%' OR (value->>'city') IN ('Oslo', 'Pune')
SELECT substr(text(key), 1, 2) AS prefix, count(*) FROM orders WHERE key IS NOT NULL GROUP BY 1 ORDER BY 1
SELECT regexp_replace(text(key), '[0-9]+', '#') AS shape, count(*) FROM orders WHERE key IS NOT NULL GROUP BY 1 ORDER BY 1
SELECT percent_rank() OVER (ORDER BY "offset") AS p, "offset" FROM orders WHERE partition = 2 AND "offset" < 5 ORDER BY 2
SELECT ntile(4) OVER (ORDER BY "offset") AS q, "offset" FROM orders WHERE partition = 2 AND "offset" < 8 ORDER BY 2
SELECT sum(json_get_int(value, 'amount')) FILTER (WHERE value->>'city' = 'Oslo'), count(*) FROM orders
SELECT round(stddev_samp(json_get_int(value, 'amount')), 6), round(corr(json_get_int(value, 'amount'), "offset"), 6) FROM orders
SELECT partition, value->>'city', count(*) FROM orders GROUP BY ROLLUP (partition, value->>'city') ORDER BY 1 NULLS LAST, 2 NULLS LAST
SELECT k, n FROM (SELECT text(key) AS k, count(*) AS n, rank() OVER (ORDER BY count(*) DESC) AS r FROM orders WHERE key IS NOT NULL GROUP BY 1) t WHERE r <= 3 ORDER BY n DESC, k
SELECT max("offset") - min("offset") + 1 - count(*) FROM orders WHERE partition = 1
SELECT 7 / 2, 7 % 2, 7.0 / 2, -7 / 2
SELECT now() > TIMESTAMPTZ '2024-01-01 00:00:00+00', current_date > DATE '2024-01-01'
